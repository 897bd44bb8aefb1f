"""A check that a file of a cell lies where it belongs: its header names the cell of its folder."""

from kdq.errors import UserError
from kdq.provenance.files import read_header
from kdq.provenance.formats import MODEL, PREDICTIONS, VIEWS
from kdq.recipe.path import Cell

ROLES = ("model", "parent", "teacher", "views")  # of inputs that name their cell; a table names its own to its reader


def check_places(inputs: dict[str, str]) -> None:
    """Check the place of each model, predictions and views among a job's input files, by role."""
    for role, path in inputs.items():
        if role in ROLES:
            check_place(path, read_header(path, MODEL, PREDICTIONS, VIEWS))


def check_place(path, header: dict) -> None:
    """Raise UserError if the file ``path`` of a cell names another data set, seed or recipe than its folder does.

    The model of a root that seeds share is a copy, so it may also name the cell it was copied from.
    """
    cell = Cell.of(path)
    named = {key: header.get(key) for key in cell.identity}
    if named not in (cell.identity, cell.original.identity):
        wrong = next(key for key, value in cell.identity.items() if named[key] != value)
        raise UserError(
            f"{path}: {wrong}: found {named[wrong]!r}, expected {cell.identity[wrong]!r}: a file of another cell; "
            "remove it and run again"
        )
