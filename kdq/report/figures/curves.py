"""Curves over epochs, from the histories of training: read, averaged over seeds, drawn."""

import csv
from statistics import fmean

from kdq.errors import UserError
from kdq.train.history import check

FEWEST_FOR_LINE_ONLY = 12  # curves of fewer epochs also mark each one


def read_history(path) -> dict[str, list[float]]:
    """Columns of a history by name: ``epoch``, ``validation_accuracy`` and, summed, ``loss``.

    Raises UserError for a file that is not the history of a training, or not that of the model beside it.
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


def read_grouped(files: list, keys: list) -> dict:
    """The histories of each of ``keys``; ``files`` has those of the first key's seeds, then the second's, and so on."""
    seeds = len(files) // len(keys)
    return {key: [read_history(file) for file in files[seeds * i : seeds * (i + 1)]] for i, key in enumerate(keys)}


def over_seeds(histories: list[dict], column: str) -> tuple[list[int], list[tuple[float, float, float]]]:
    """``(epochs, [(mean, least, most), ...])`` of a column over seeds, for the epochs that all of them have."""
    epochs = min((history["epoch"] for history in histories), key=len)
    by_epoch = zip(*(history[column][: len(epochs)] for history in histories), strict=True)
    return epochs, [(fmean(values), min(values), max(values)) for values in by_epoch]


def draw(panel, histories: list[dict], column: str, look: dict, *, scale: float = 1.0, label: str = "") -> None:
    """The mean over seeds as a line, with some of its points marked, and the range over seeds as a band."""
    epochs, values = over_seeds(histories, column)
    mean, least, most = ([scale * value for value in series] for series in zip(*values, strict=True))
    every = 1 if len(epochs) < FEWEST_FOR_LINE_ONLY else len(epochs) // 6
    panel.plot(epochs, mean, markevery=every, label=label, **look)
    if len(histories) > 1:
        panel.fill_between(epochs, least, most, color=look["color"], alpha=0.15, linewidth=0)
