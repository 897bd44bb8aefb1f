"""A check that a file lies where it belongs: its header names the cell of its folder, or its data set and split."""

from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_header
from kdq.provenance.formats import DATA, MODEL, PREDICTIONS, VIEWS
from kdq.recipe.path import Cell, data_file

# of inputs that name their cell; a table names its own to its reader
ROLES = ("model", "parent", "teacher", "ancestor", "views")


def check_places(inputs: dict[str, str]) -> None:
    """Check the place of the data and of each model, predictions and views among a job's input files, by role."""
    for role, path in inputs.items():
        if role == "data":
            check_data(path)
        elif role in ROLES:
            check_place(path, read_header(path, MODEL, PREDICTIONS, VIEWS))


def check_data(path) -> None:
    """Raise UserError if the data file ``path`` is of another data set or split than its path says."""
    header = read_header(path, DATA)
    expected = Path(data_file(str(header.get("dataset")), str(header.get("split_seed"))))
    if Path(path).parts[-len(expected.parts) :] != expected.parts:
        found = f"{header.get('dataset')!r}, split {header.get('split_seed')}"
        raise UserError(f"{path}: found the data of {found}, expected that of its path; remove it and run again")


def check_place(path, header: dict) -> None:
    """Raise UserError if the file ``path`` of a cell names another data set, seed or recipe than its folder does.

    The model of a root that seeds share is a copy, so it may also name the cell it was copied from.
    """
    cell = Cell.of(path)
    named = {key: header.get(key) for key in cell.identity}
    if named not in (cell.identity, cell.original.identity):
        by_key = sorted(cell.identity, key=lambda key: named[key] == cell.original.identity[key])
        wrong = next(key for key in by_key if named[key] != cell.identity[key])
        raise UserError(
            f"{path}: {wrong}: found {named[wrong]!r}, expected {cell.identity[wrong]!r}: a file of another cell; "
            "remove it and run again"
        )
