"""The one kind of error that a user can cause and mend, and the one way in which a job is stopped."""

import re
import reprlib

LONGEST_WORD = 100  # to look for the like of a longer one takes time and finds nothing
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


class UserError(Exception):
    """A message of one line: which file or key, what was found, what was expected.

    Jobs print it without a traceback; anything else that is raised is a defect of ours and keeps its traceback. What
    stands in it may come from outside, so it is made printable, and shortened in its middle where it is too long.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class Stopped(BaseException):
    """A job was asked to end, by SIGTERM; no Exception, so that nothing takes it for an error to go on from."""


def one_line(text: str, most: int = 1000) -> str:
    """``text`` in one printable line of at most ``most`` letters.

    >>> one_line("a line\\n\\tand a bell\\a")
    'a line and a bell\\\\x07'
    """
    text = re.sub(r"[ \t]*[\r\n\t][ \r\n\t]*", " ", text)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= most else f"{text[: most // 2 - 3]} ... {text[3 - most // 2 :]}"


def shown(value) -> str:
    """``value`` as a message shows it: on one line, and however large it is or deeply nested, not for long."""
    return _SHORT.repr(value)


def nearest(word, choices) -> str:
    """``"; did you mean 'kd'?"`` for the choice most like ``word``, or an empty string where nothing is alike."""
    import difflib

    found = word[:LONGEST_WORD] if isinstance(word, str) else shown(word)
    likeness = 0.5 if len(found) < 4 else 0.6  # of two letters, one is enough
    alike = difflib.get_close_matches(found, [str(choice) for choice in choices], n=1, cutoff=likeness)
    return f"; did you mean {alike[0]!r}?" if alike else ""
