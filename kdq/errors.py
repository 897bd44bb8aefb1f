"""The one kind of error that a user can cause and mend."""

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


class UserError(Exception):
    """A message of one line: which file or key, what was found, what was expected.

    Jobs print it without a traceback; anything else that is raised is a defect of ours and keeps its traceback.
    """


def shown(value) -> str:
    """``value`` as a message shows it: on one line, and however large it is or deeply nested, not for long."""
    return _SHORT.repr(value)


def nearest(word: str, choices) -> str:
    """``"; did you mean 'kd'?"`` for the choice most like ``word``, or an empty string where nothing is alike."""
    import difflib

    alike = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean {alike[0]!r}?" if alike else ""
