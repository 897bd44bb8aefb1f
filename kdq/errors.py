"""The one kind of error that a user can cause and mend, and the one way in which a job is stopped."""


class UserError(Exception):
    """A message of one line: which file or key, what was found, what was expected.

    Jobs print it without a traceback; anything else that is raised is a defect of ours and keeps its traceback.
    """


class Stopped(BaseException):
    """A job was asked to end, by SIGTERM; no Exception, so that nothing takes it for an error to go on from."""


def nearest(word: str, choices) -> str:
    """``"; did you mean 'kd'?"`` for the choice most like ``word``, or an empty string where nothing is alike."""
    import difflib

    alike = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean {alike[0]!r}?" if alike else ""
