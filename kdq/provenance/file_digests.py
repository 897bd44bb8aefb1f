"""Digests of large files outside the results, without reading them each time: planning must stay quick."""

import contextlib
import hashlib
import os
import time
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json, sha256, write_json

KEPT = Path(".snakemake/files")  # below the working folder; planning uses it, verification does not
SMALL_BYTES = 1 << 20  # a smaller file is read faster than it is looked up
SETTLED_SECONDS = 2  # a file changed later than this may change again within one tick of its file system's clock


class FileDigests:
    """SHA-256 of files by their content, read again if size, times or inode changed.

    The digests are kept in the folder ``kept``, if given and if its parent exists.
    """

    def __init__(self, kept: Path | None = None):
        self.kept = kept
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

    def _note(self, path: str) -> Path | None:
        """Return the file that keeps the digest of ``path``, None if none is kept."""
        if self.kept is None or not self.kept.parent.is_dir():
            return None
        return self.kept / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.json"

    def _known(self, path: str, state: str) -> str:
        """Return the digest that was kept for the file in this state, else ""."""
        note = self._note(path)
        with contextlib.suppress(UserError):  # missing or damaged
            if note and (known := read_json(note, sealed=True)).get("state") == state and known.get("path") == path:
                return known["sha256"]
        return ""

    def _read(self, path: str, state: str, changed: float) -> str:
        digest, note = sha256(path), self._note(path)
        if note and time.time() - changed > SETTLED_SECONDS:
            with contextlib.suppress(UserError, OSError):
                write_json(note, {"path": path, "state": state, "sha256": digest}, alone=False)
        return digest
