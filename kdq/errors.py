"""``UserError``, which the user can fix, and ``Stopped``, raised when the job receives SIGTERM."""

import re
import reprlib

LONGEST_WORD = 100  # comparing a longer one takes time and finds nothing
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80


class UserError(Exception):
    """A one-line message: the file or key, the value found, what was expected.

    Jobs print it without a traceback; any other exception is a defect of KDQ and keeps its traceback. The message may
    quote foreign input, so it is made printable, and shortened in the middle if it is too long.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class Stopped(BaseException):
    """The job received SIGTERM. Not an Exception, so that no handler of errors continues after it."""


def one_line(text: str, most: int = 1000) -> str:
    """Return ``text`` as one printable line of at most ``most`` characters.

    >>> one_line("a line\\n\\tand a bell\\a")
    'a line and a bell\\\\x07'
    """
    text = re.sub(r"[ \t]*[\r\n\t][ \r\n\t]*", " ", text)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= most else f"{text[: most // 2 - 3]} ... {text[3 - most // 2 :]}"


def reason(error: Exception, most: int = 200) -> str:
    """Return the message of ``error``, or its type if it has none, in one line of at most ``most`` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(value) -> str:
    """Return a one-line repr of limited length, even of a large or deeply nested ``value``."""
    return _SHORT.repr(value)


def nearest(word, choices) -> str:
    """Return ``"; did you mean 'kd'?"`` for the choice most similar to ``word``, or "" if none is similar."""
    import difflib

    text = word[:LONGEST_WORD] if isinstance(word, str) else shown(word)
    cutoff = 0.5 if len(text) < 4 else 0.6  # of two letters, one is enough
    words = [str(choice) for choice in choices]
    shortened = [name for name in words if len(text) > 2 and name.startswith(text)]  # temp is temperature, not stem
    matches = shortened or difflib.get_close_matches(text, words, n=1, cutoff=cutoff)
    return f"; did you mean {matches[0]!r}?" if matches else ""
