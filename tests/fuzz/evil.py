"""A pickle that runs code when it is loaded."""

from pathlib import Path

TRACE = Path("/tmp/kdq-was-here")


class Evil:
    """Writes a file when unpickled."""

    def __reduce__(self):
        return Path.write_text, (TRACE, "")
