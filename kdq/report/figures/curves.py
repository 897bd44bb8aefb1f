"""Curves over epochs: read histories of training, average them over seeds, draw them."""

import csv

import pandas as pd

from kdq.errors import UserError
from kdq.recipe.path import Cell
from kdq.train.history import check

FEWEST_FOR_LINE_ONLY = 12  # curves of fewer epochs also mark each one


def read_history(path) -> dict[str, list[float]]:
    """Return the columns ``epoch``, ``validation_accuracy`` and ``loss``, the sum of the terms, of one training.

    Raise UserError if the file is not the history of a training, or not that of the model beside it.
    """
    check(path)
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        terms = [name for name in (rows[0] if rows else ()) if name.startswith("loss_")]
        return {
            "epoch": [int(row["epoch"]) for row in rows],
            "loss": [sum(float(row[term]) for term in terms) for row in rows],
            "validation_accuracy": [float(row["validation_accuracy"]) for row in rows],
        }
    except (OSError, AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable as the history of a training ({error})") from None


def read(*paths) -> pd.DataFrame:
    """Return the histories of cells, a row per epoch, with the columns ``recipe`` and ``seed`` of their paths.

    Raise UserError if one has no epochs.
    """
    histories = []
    for path in paths:
        history, cell = read_history(path), Cell.of(path)
        if not history["epoch"]:
            raise UserError(f"{path}: an empty history, expected a row per epoch")
        histories.append(pd.DataFrame(history).assign(recipe=cell.recipe, seed=cell.seed))
    return pd.concat(histories, ignore_index=True)


def draw(panel, runs: pd.DataFrame, column: str, look: dict, *, scale: float = 1.0, label: str = "") -> None:
    """Draw the mean over seeds as a line, with some of its points marked, and the range over seeds as a band."""
    by_epoch = runs.groupby("epoch")[column].agg(["mean", "min", "max", "size"])
    seeds = runs.seed.nunique()
    values = scale * by_epoch[by_epoch["size"] == seeds][["mean", "min", "max"]]  # epochs that all seeds have
    every = 1 if len(values) < FEWEST_FOR_LINE_ONLY else len(values) // 6
    panel.plot(values.index, values["mean"], markevery=every, label=label, **look)
    if seeds > 1:
        panel.fill_between(values.index, values["min"], values["max"], color=look["color"], alpha=0.15, linewidth=0)
