"""The headers and digests of files below the results: read without torch, by all cores."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from kdq.errors import UserError
from kdq.provenance import formats, ledger
from kdq.provenance.files import read_header, read_json, read_table, sha256
from kdq.provenance.regular_file import FILE, kind
from kdq.train import history

LARGE = ("layers", "architecture", "validation", "test", "classes")  # and not needed here
AT_A_TIME = 50  # files that are sent to a process at once


@dataclass(frozen=True)
class Content:
    """The SHA-256 of a file, its header, and what is wrong with it, empty if nothing is."""

    sha256: str
    header: dict = field(default_factory=dict)
    wrong: str = ""

    @property
    def known_as(self) -> str:
        """The digest by which files made from this one know it: of a history that of its reproducible part."""
        return self.header.get("digest", self.sha256)


def read_all(root: Path, files: dict[str, str]) -> dict[str, Content]:
    """Return the contents of files by their paths, ``results/...``; ``root`` is where that folder lies.

    ``files`` holds the format of each. As many processes read them as there are cores.
    """
    processes = len(os.sched_getaffinity(0))
    if processes == 1 or len(files) <= AT_A_TIME:
        return {path: read(root, path, form) for path, form in files.items()}
    with ProcessPoolExecutor(processes) as pool:
        contents = pool.map(partial(read, root), files.keys(), files.values(), chunksize=AT_A_TIME)
        return dict(zip(files, contents, strict=True))


def read(root: Path, path: str, form: str) -> Content:
    """Return the content of one file of the format ``form``."""
    file = root.joinpath(*PurePath(path).parts[1:])
    if (lies_there := kind(file)) != FILE:
        return Content("", wrong=f"found {lies_there}, expected a file")
    try:
        digest = sha256(file)
    except OSError as error:
        return Content("", wrong=f"not readable ({error.strerror})")
    try:
        return Content(digest, {key: value for key, value in _header(file, form).items() if key not in LARGE})
    except UserError as error:
        return Content(digest, wrong=str(error).removeprefix(f"{file}: "))


def _header(file: Path, form: str) -> dict:
    """Return what a file holds about itself; raise UserError if it is damaged or of another format."""
    match form:
        case formats.PLAIN:
            return {}
        case formats.HISTORY:
            return {"digest": history.digest(file)}
        case formats.CODE:
            return ledger.read(file)
        case formats.SENSITIVITY:
            return read_table(file, form)[0]
    return read_json(file, sealed=True) if file.suffix == ".json" else read_header(file, form, sealed=True)
