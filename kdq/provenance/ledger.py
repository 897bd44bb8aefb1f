"""What fingerprints of code stand for: ``results/code/<fingerprint>.json`` has the digest of each file.

A result holds a fingerprint, which says whether its code changed. The ledger, which is copied along with the results,
says in which file.
"""

from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json, write_json
from kdq.provenance.fingerprint import combined

FOLDER = Path("results/code")


def note(fingerprint: str, digests: dict[str, str]) -> None:
    """Write what ``fingerprint`` stands for, where that is not yet known."""
    path = FOLDER / f"{fingerprint}.json"
    if not path.is_file():
        write_json(path, digests, alone=False)  # jobs that begin together note the same


def read(path) -> dict[str, str]:
    """The digest of each file behind a fingerprint; raises UserError where that is not what the file's name says."""
    digests = read_json(path)
    if combined(digests) != Path(path).stem:
        raise UserError(f"{path}: corrupted, the fingerprint of its files is {combined(digests)}")
    return digests


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The files whose code is not the same, or that are in one of the two alone; sorted."""
    return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))
