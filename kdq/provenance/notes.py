"""Notes on files outside the results, so that planning need not read these each time: a folder of small JSON files."""

import contextlib
import hashlib
import os
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json, write_json

SETTLED_SECONDS = 2  # a file changed later than this may change again within one tick of its file system's clock


class Notes:
    """Notes by path, kept in ``folder`` if it is given and its parent exists; several processes may write them."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def read(self, path: str) -> dict:
        """Return the note on ``path``, empty if there is none or it is damaged."""
        with contextlib.suppress(UserError):
            note = read_json(self._file(path), sealed=True) if self.folder else {}
            return note if note.get("path") == path else {}
        return {}

    def write(self, path: str, note: dict) -> None:
        if self.folder and self.folder.parent.is_dir():
            with contextlib.suppress(UserError, OSError):
                write_json(self._file(path), {**note, "path": path}, alone=False)

    def _file(self, path: str) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.json"
