"""Curves over epochs: read histories of training, average them over seeds, draw them."""

import pandas as pd

from kdq.errors import UserError
from kdq.recipe.path import Cell
from kdq.train.history import check

FEWEST_FOR_LINE_ONLY = 12  # curves of fewer epochs also mark each one


def read_history(path) -> pd.DataFrame:
    """Return ``epoch``, ``validation_accuracy`` and ``loss``, the sum of the terms, of one training.

    Raise UserError if the file is not the history of a training, or not that of the model beside it.
    """
    check(path)
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False)
        history = table[["epoch", "validation_accuracy"]].astype({"epoch": int, "validation_accuracy": float})
        return history.assign(loss=table.filter(regex="^loss_").astype(float).sum(axis=1))
    except (OSError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not readable as the history of a training ({error})") from None


def read(*paths) -> pd.DataFrame:
    """Return the histories of cells with their ``recipe`` and ``seed``; raise UserError if one has no epochs."""
    histories = {path: read_history(path) for path in paths}
    if empty := [path for path, history in histories.items() if history.empty]:
        raise UserError(f"{empty[0]}: an empty history, expected one row per epoch")
    cells = ((Cell.of(path), history) for path, history in histories.items())
    return pd.concat([history.assign(recipe=cell.recipe, seed=cell.seed) for cell, history in cells], ignore_index=True)


def draw(panel, runs, column: str, look: dict, *, scale: float = 1.0, label: str = "", aside: float = 0.0) -> None:
    """Draw the mean over seeds as a line, with some of its points marked, and the range over seeds as a band.

    ``aside`` moves the marks along the line, by a share of the way to the next, away from those of other lines.
    """
    by_epoch = runs.groupby("epoch")[column].agg(["mean", "min", "max", "size"])
    seeds = runs.seed.nunique()
    values = scale * by_epoch[by_epoch["size"] == seeds][["mean", "min", "max"]]  # epochs that all seeds have
    step = len(values) // 6
    every = 1 if len(values) < FEWEST_FOR_LINE_ONLY else (int(aside * step), step)
    panel.plot(values.index, values["mean"], markevery=every, label=label, **look)
    if seeds > 1:
        panel.fill_between(values.index, values["min"], values["max"], color=look["color"], alpha=0.15, linewidth=0)
