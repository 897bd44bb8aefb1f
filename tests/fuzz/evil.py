"""A pickle that does something to whoever loads it."""

from pathlib import Path

TRACE = Path("/tmp/kdq-was-here")


class Evil:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return Path.write_text, (TRACE, "")
