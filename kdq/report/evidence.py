"""Copy the tables and figures of a finished study to the pages on results, with what made them.

    python -m kdq.report.evidence results/studies/default docs/results/default

``run.csv`` there names commit, processor, cores and version of PyTorch. `make docs` then writes the pages from it.
"""

import csv
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

from kdq.deploy.machine import processor
from kdq.errors import UserError
from kdq.provenance.files import atomic
from kdq.report import commit

TABLES = ("table", "summary", "comparisons", "sequences", "deployment")


def copy(study: Path, place: Path) -> None:
    """Copy a study's tables and the PNGs of its figures to the folder ``place``, and write its ``run.csv``.

    Raise UserError if the study has no table, and outside a clone.
    """
    if not (study / "table.csv").is_file():
        raise UserError(f"{study}/table.csv: missing, expected the folder of a finished study")
    place.mkdir(parents=True, exist_ok=True)
    tables = [path for name in TABLES if (path := study / f"{name}.csv").is_file()]
    for path in (*tables, *sorted(study.glob("figures/*/*.png"))):
        shutil.copyfile(path, place / path.name)
    with atomic(place / "run.csv") as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(zip(*run().items(), strict=True))


def run() -> dict[str, str]:
    """Return commit (with ``-dirty`` if files differ from it), processor, cores and version of PyTorch."""
    if not (described := commit.describe(".")):
        raise UserError(f"no commit to name: {Path.cwd()} is not a git repository")
    machine = {"processor": processor()["name"], "cores": str(os.cpu_count())}
    return {"commit": described, **machine, "torch": importlib.metadata.version("torch")}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("expected two arguments: the folder of a finished study, and that of its tables in docs/results")
    try:
        copy(*map(Path, sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
