"""Fetch the files of an imported network from a hub's repository at a commit, or find them in a local folder."""

from pathlib import Path

from kdq.data import download
from kdq.errors import UserError, reason
from kdq.provenance.files import sha256
from kdq.roots.keys import files, local_files


def fetch(keys: dict) -> list[Path]:
    """Return the paths of the network's files, that of its weights first.

    Raise UserError if one is missing or can't be fetched, or if the SHA-256 of the weights is not the key's.
    """
    paths = [Path(path) for path in local_files(keys)] or [from_hub(keys, name) for name in files(keys)]
    weights, expected = paths[0], keys["sha256"]
    if expected and (found := sha256(weights)) != expected:
        raise UserError(
            f"{weights}: SHA-256 {found} and {weights.stat().st_size} bytes, expected SHA-256 {expected}; "
            "if the key sha256 is right, remove the file and start again"
        )
    return paths


def from_hub(keys: dict, name: str) -> Path:
    """Return the path of a file of the repository at its commit; download it if it is not cached."""
    repository, revision = keys["repository"], keys["revision"]
    try:
        return download.hub_file(repository, revision, name)
    except Exception as error:  # of many kinds, all of which mean that the file can't be had
        where = f"{repository}, commit {revision[:12]}, file {name}"
        raise UserError(f"{where}: not to be downloaded ({reason(error)})") from None
