"""What the trainings of models cost: the column ``training_flops``, from their histories."""

import csv

from kdq.errors import UserError
from kdq.recipe.path import Cell
from kdq.train import history


def read(paths) -> dict[Cell, int]:
    """Return the floating-point operations of trainings from their histories, by cell, if these were counted.

    A network from outside, or trained before operations were counted, has none. Raise UserError if a file is not the
    history of the model beside it.
    """
    counted = {Cell.of(path): _operations(path) for path in paths}
    return {cell: operations for cell, operations in counted.items() if operations}


def _operations(path) -> int:
    history.check(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return sum(int(row.get("training_flops") or 0) for row in csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable as the history of a training ({error})") from None
