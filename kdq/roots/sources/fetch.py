"""Fetch the files of an imported network from a hub's repository at a commit, or find them in a local folder."""

import hashlib
import re
from pathlib import Path

from kdq.data import download
from kdq.errors import UserError, reason
from kdq.provenance.files import sha256
from kdq.roots.keys import files, local_files


def fetch(keys: dict) -> dict[str, Path]:
    """Return the paths of the network's files by role, that of its weights first.

    Raise UserError if one is missing, damaged or can't be fetched, or if the SHA-256 of the weights is not the key's.
    """
    paths = local_files(keys) or {role: from_hub(keys, name) for role, name in files(keys).items()}
    weights, expected = paths["weights"], keys["sha256"]
    if expected and (found := sha256(weights)) != expected:
        raise UserError(
            f"{weights}: SHA-256 {found} and {weights.stat().st_size} bytes, expected SHA-256 {expected}; "
            "if the key sha256 is right, remove the file and start again"
        )
    if not keys["folder"]:
        for path in list(paths.values())[1:]:
            check_cached(path)
    return paths


def from_hub(keys: dict, name: str) -> Path:
    """Return the path of a file of the repository at its commit; download it if it is not cached."""
    repository, revision = keys["repository"], keys["revision"]
    try:
        return download.hub_file(repository, revision, name)
    except Exception as error:  # of many kinds, all of which mean that the file can't be had
        where = f"{repository}, commit {revision[:12]}, file {name}"
        raise UserError(f"{where}: not to be downloaded ({reason(error)})") from None


def check_cached(path: Path) -> None:
    """Raise UserError if a file in the hub client's cache is not the one of its commit.

    The cache links to a file that is named by its content: by the SHA-256, or for a small file by the SHA-1 of git.
    """
    name = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name):
        digest = sha256(path)
    elif re.fullmatch("[0-9a-f]{40}", name):
        content = path.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return  # a cache without links
    if digest != name:
        raise UserError(f"{path}: found a content of digest {digest}, expected {name}; remove the file and start again")
