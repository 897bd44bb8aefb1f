"""Seals: a file holds its own checksum, the SHA-256 of the file with the checksum blanked out.

A writer puts ``BLANK`` in the place of the checksum and seals the finished file. Every byte is covered, whatever the
format, and checking parses nothing.
"""

import hashlib
import mmap
import re

from kdq.errors import UserError

KEY = "seal"  # of the JSON object that holds the checksum
BLANK = "-" * 64


def seal(path) -> None:
    """Replace the first ``BLANK`` in the file by the checksum."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = content.find(BLANK.encode())
        checksum = hashlib.sha256(content).hexdigest().encode()
        content[place : place + len(checksum)] = checksum


def check(path, found: str) -> None:
    """Raise UserError if ``found``, the checksum in the file, is not that of its content."""
    if not isinstance(found, str) or not re.fullmatch("[0-9a-f]{64}", found):
        raise UserError(f"{path}: corrupted, its seal is no SHA-256")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(found.encode())
        with memoryview(content) as view, view[:place] as before, view[place + len(BLANK) :] as after:
            digest = hashlib.sha256(before)
            digest.update(BLANK.encode())
            digest.update(after)
    if place < 0 or digest.hexdigest() != found:
        raise UserError(f"{path}: corrupted, its content is not what was written; copy it again or remove it")
