"""What the files of results say of themselves: read without torch, many at a time."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance import formats, ledger
from kdq.provenance.files import read_header, read_json, sha256
from kdq.train import history

LARGE = ("layers", "architecture", "validation", "test", "classes")  # and no matter here
HEADERS = {
    "data": formats.DATA,
    "model.safetensors": formats.MODEL,
    "model.archive.safetensors": formats.ARCHIVE,
    "predictions.safetensors": formats.PREDICTIONS,
    "views": formats.VIEWS,
}
AT_A_TIME = 50  # files that a process is given at once


@dataclass(frozen=True)
class Content:
    """The SHA-256 of a file, what it says of itself, and what is wrong with it, empty where nothing is."""

    sha256: str
    says: dict = field(default_factory=dict)
    wrong: str = ""

    @property
    def known_as(self) -> str:
        """The digest by which the files that are made with it know it: of a history that of what is reproducible."""
        return self.says.get("digest", self.sha256)


def read_all(root: Path, paths: list[str], processes: int | None = None) -> dict[str, Content]:
    """The contents of files by their paths, ``results/...``; ``root`` is where that folder lies.

    They are read by as many processes as there are cores.
    """
    processes = processes or len(os.sched_getaffinity(0))
    if processes == 1 or len(paths) <= AT_A_TIME:
        return {path: read(root, path) for path in paths}
    with ProcessPoolExecutor(processes) as pool:
        return dict(zip(paths, pool.map(partial(read, root), paths, chunksize=AT_A_TIME), strict=True))


def read(root: Path, path: str) -> Content:
    """The content of one file."""
    file = root.joinpath(*path.split("/")[1:])
    if not file.is_file():
        return Content("", wrong="no regular file")
    try:
        digest = sha256(file)
    except OSError as error:
        return Content("", wrong=f"not readable ({error.strerror})")
    try:
        return Content(digest, {key: value for key, value in _says(file).items() if key not in LARGE})
    except UserError as error:
        return Content(digest, wrong=str(error).removeprefix(f"{file}: "))


def _says(file: Path) -> dict:
    """What is said by a file of this name; raises UserError where it is not whole."""
    if file.name == "history.csv":
        return {"digest": history.digest(file)}
    if file.suffix == ".json":
        return ledger.read(file) if file.parent.name == "code" else read_json(file, sealed=True)
    if file.suffix == ".safetensors":
        kind = "data" if file.parent.name == "data" else file.name.split(",")[0]
        return read_header(file, HEADERS[kind], sealed=True)
    return {}
