"""The digest of an image folder's content: planning compares it, and reads only what changed outwardly since.

A file whose size, times and inode are those of the last time is taken to be unchanged. One of the times is that of the
last change of its status (ctime), which no program can set back, so other content with the same name, size and time of
modification is noticed; a copied, touched or unpacked folder is read once, and its digest is the same.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kdq.data.folder_files import image_files, image_folder
from kdq.errors import UserError
from kdq.provenance.notes import SETTLED_SECONDS, Notes

KEPT = Path(".snakemake/images")  # below the working folder; planning uses it, verification does not


def folder_digest(settings: dict, kept: Path | None = None) -> str:
    """Return the digest of the images in ``settings["image_folder"]``: of the bytes of each, by part and class.

    The names of images don't count, only their order. Per class the digest and the outward state it belongs to are
    cached in the folder ``kept``, if given and if its parent exists; without, every image is read. Raise UserError
    if there is no such folder, if it is not one folder of images per class, or if an image can't be read.
    """
    from tqdm import tqdm

    root = os.path.realpath(image_folder(settings))
    notes = Notes(kept)
    known, current, classes = notes.read(root).get("classes", {}), {}, {}
    parts = list(image_files(settings).of_classes())
    with ThreadPoolExecutor() as pool:
        for part, name, paths in tqdm(parts, desc="comparing images", unit="class", disable=None, delay=2):
            key, (outward, is_settled) = f"{part}/{name}", _outward(paths)
            if key in known and known[key]["outward"] == outward:
                current[key] = known[key]
                classes[part, name] = known[key]["content"]
                continue
            classes[part, name] = class_digest(pool.map(_digest, paths))
            if is_settled and outward == _outward(paths)[0]:  # not changed meanwhile
                current[key] = {"outward": outward, "content": classes[part, name]}
    if current != known:
        notes.write(root, {"classes": current})
    return combined(classes)


def class_digest(digests: Iterable[str]) -> str:
    """Return one digest of the SHA-256 of each image of a class, in their order."""
    total = hashlib.sha256()
    for digest in digests:
        total.update(bytes.fromhex(digest))
    return total.hexdigest()


def combined(classes: dict[tuple[str, str], str]) -> str:
    """Return one digest of the digests of classes by part and name, in their order."""
    total = hashlib.sha256()
    for (part, name), digest in classes.items():
        total.update(os.fsencode(f"{part}/{name}\0{digest}\n"))
    return total.hexdigest()


def _outward(paths: list[str]) -> tuple[str, bool]:
    """Return a digest of names, sizes, times and inodes, and whether a further change would give another one."""
    total, last_ns, now = hashlib.sha256(), 0, time.time()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: not readable ({error.strerror}), expected an image") from None
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        total.update(os.fsencode(f"{os.path.basename(path)}\0{state}\n"))
        last_ns = max(last_ns, status.st_ctime_ns)
    return total.hexdigest(), last_ns / 1e9 < now - SETTLED_SECONDS


def _digest(path: str) -> str:
    """Return the SHA-256 of an image's bytes."""
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}), expected an image") from None
