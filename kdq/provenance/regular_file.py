"""What is no regular file: to read a FIFO is to wait for a writer, perhaps forever, and a device may have no end."""

import os
import stat

from kdq.errors import UserError

FILE, FOLDER, NOTHING = "a file", "a folder", "nothing"
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind(path) -> str:
    """Return what lies at ``path``, links followed: ``FILE``, ``FOLDER``, ``NOTHING``, else words for a message."""
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "a special file")
    except FileNotFoundError:
        return f"a link to {os.readlink(path)}, which does not exist" if os.path.islink(path) else NOTHING
    except OSError as error:
        return f"nothing readable ({os.strerror(error.errno).lower()})"


def require(path, expected: str, most_bytes: int | None = None) -> None:
    """Raise UserError unless a regular file of at most ``most_bytes`` lies at ``path``; ``expected`` describes it."""
    if (lies_there := kind(path)) != FILE:
        raise UserError(f"{path}: found {lies_there}, expected {expected}")
    if most_bytes is not None and (size_bytes := os.path.getsize(path)) > most_bytes:
        raise UserError(f"{path}: found {size_bytes:,} bytes, expected {expected} of at most {most_bytes:,}")


def check_regular(path) -> None:
    """Raise UserError if ``path`` is no regular file, nor a link to one; a missing file is left to its reader."""
    if kind(path) != NOTHING:
        require(path, "a file; remove it and run again")


def read(path, expected: str, most_bytes: int | None = None) -> bytes:
    """Return the bytes of a regular file; raise UserError as :func:`require` does, and if it can't be read."""
    require(path, expected, most_bytes)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}), expected {expected}") from None
