"""The parts of the page that are no Python: its template, style and code, on which it depends like on its modules."""

import hashlib
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance import regular_file

FOLDER = Path(__file__).parent
NAMES = ("page.html", "page.css", "page.js")


def read() -> dict[str, str]:
    """Return the text of each part by its name."""
    return {name: regular_file.read(FOLDER / name, "a part of the page").decode() for name in NAMES}


def digest(parts: dict[str, str]) -> str:
    """Return one digest, 16 hexadecimal digits, of the texts of all parts."""
    return hashlib.sha256("\0".join(parts[name] for name in NAMES).encode()).hexdigest()[:16]


def check(parts: dict[str, str], planned: str) -> None:
    """Raise UserError unless the parts are those that the page was planned with."""
    if digest(parts) != planned:
        raise UserError(f"{FOLDER}: changed after this run was planned; start snakemake again")
