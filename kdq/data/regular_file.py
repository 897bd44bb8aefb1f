"""Files from outside: a FIFO in the place of a file would wait for ever, a device may never end."""

import os
import stat

from kdq.errors import UserError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind(path) -> str:
    """Return what lies at ``path``, links followed: "a file", "a folder", else words for a message."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"{'a link that leads nowhere' if os.path.islink(path) else 'not readable'} ({error.strerror})"
    return KINDS.get(stat.S_IFMT(mode), "a file")


def require(path, expected: str, most_bytes: int | None = None) -> None:
    """Raise UserError unless a regular file of at most ``most_bytes`` lies at ``path``; ``expected`` describes it."""
    if (lies_there := kind(path)) != "a file":
        raise UserError(f"{path}: {lies_there}, expected {expected}")
    if most_bytes is not None and (size_bytes := os.path.getsize(path)) > most_bytes:
        raise UserError(f"{path}: {size_bytes:,} bytes, expected {expected} of at most {most_bytes:,}")


def read(path, expected: str, most_bytes: int | None = None) -> bytes:
    """Return the bytes of a regular file; raise UserError as :func:`require` does, and if it can't be read."""
    require(path, expected, most_bytes)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}), expected {expected}") from None
