"""Digests of large files outside the results, without reading them each time: planning must stay quick."""

import os
import time
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import sha256
from kdq.provenance.notes import SETTLED_SECONDS, Notes

KEPT = Path(".snakemake/files")  # below the working folder; planning uses it, verification does not
SMALL_BYTES = 1 << 20  # a smaller file is read faster than it is looked up


class FileDigests:
    """SHA-256 of files by their content, read again if size, times or inode changed.

    The digests are kept in the folder ``kept``, if given and if its parent exists.
    """

    def __init__(self, kept: Path | None = None):
        self.notes = Notes(kept)
        self._digests: dict[tuple[str, str], str] = {}

    def of(self, path) -> str:
        """Return the SHA-256 of a file, 64 hexadecimal digits; raise UserError if it can't be read."""
        try:
            real = os.path.realpath(path)
            status = os.stat(real)
            if status.st_size < SMALL_BYTES:
                return sha256(real)
            state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {status.st_dev}"
            if (real, state) not in self._digests:
                self._digests[real, state] = self._known(real, state) or self._read(real, state, status.st_ctime)
        except OSError as error:
            raise UserError(f"{path}: not readable ({error.strerror})") from None
        return self._digests[real, state]

    def _known(self, path: str, state: str) -> str:
        """Return the digest that was kept for the file in this state, else ""."""
        note = self.notes.read(path)
        return note["sha256"] if note.get("state") == state else ""

    def _read(self, path: str, state: str, changed: float) -> str:
        digest = sha256(path)
        if time.time() - changed > SETTLED_SECONDS:
            self.notes.write(path, {"state": state, "sha256": digest})
        return digest
