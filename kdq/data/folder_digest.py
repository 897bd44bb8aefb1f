"""Detect changes of an image folder without reading an image: planning must stay quick."""

import hashlib
import os

from kdq.errors import UserError

DEPTH = 3  # <image_folder>/<part>/<class>/<image>


def folder_digest(settings: dict) -> str:
    """Return the SHA-256 of relative names, sizes and modification times of the files in ``settings["image_folder"]``.

    Hidden files do not count. Raise UserError if there is no such folder.
    """
    root = image_folder(settings)
    digest = hashlib.sha256()
    for name, status in walk(root, "", DEPTH):
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def counts(settings: dict) -> tuple[int, int]:
    """Return the numbers of images and classes in ``settings["image_folder"]``; raise likewise."""
    names = [name for name, _ in walk(image_folder(settings), "", DEPTH)]
    return len(names), len({name.split("/")[-2] for name in names if "/" in name})


def image_folder(settings: dict) -> str:
    """Return the path of the image folder; raise UserError if the key or the folder is missing."""
    root = settings.get("image_folder")
    if not root:
        raise UserError("image_folder: missing, expected the path of a folder of images for the data set 'folder'")
    if not os.path.isdir(root):
        raise UserError(f"image_folder: {root} is not a folder, expected one with a folder of images for each class")
    return root


def walk(folder: str, prefix: str, depth: int):
    """Yield relative name and status of each visible file, at most ``depth`` levels down (links may form a circle)."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: not readable ({error.strerror})") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            # a broken link counts as itself; the error comes when the images are read
            yield prefix + entry.name, entry.stat(follow_symlinks=os.path.exists(entry.path))
        elif depth > 1:
            yield from walk(entry.path, f"{prefix}{entry.name}/", depth - 1)
