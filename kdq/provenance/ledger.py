"""The ledger of code: ``results/code/<fingerprint>.json`` holds the digest of each file behind a fingerprint.

The fingerprint in a result tells whether its code changed; the ledger, which is copied with the results, in which file.
"""

from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json, write_json
from kdq.provenance.fingerprint import combined
from kdq.recipe.path import RESULTS

FOLDER = Path(RESULTS) / "code"


def note(fingerprint: str, digests: dict[str, str]) -> None:
    """Write the digests behind ``fingerprint`` unless they are known."""
    path = FOLDER / f"{fingerprint}.json"
    if not path.is_file():
        write_json(path, digests, alone=False)  # jobs that start together may write the same note


def read(path) -> dict[str, str]:
    """Return the digest of each file behind a fingerprint; raise UserError if they do not match the file's name."""
    digests = read_json(path)
    if combined(digests) != Path(path).stem:
        raise UserError(f"{path}: corrupted, the fingerprint of its files is {combined(digests)}")
    return digests


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the files whose digests differ or that only one of the two has, sorted."""
    return sorted({file for file, _ in before.items() ^ now.items()})
