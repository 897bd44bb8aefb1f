"""The file ``sensitivity.csv``: the cost of quantizing one layer alone, per layer and bit-width."""

import csv
import math
from dataclasses import asdict, astuple, dataclass, fields

from kdq.errors import UserError
from kdq.provenance.files import read_table, write_table
from kdq.provenance.formats import SENSITIVITY as FORMAT
from kdq.provenance.place import check_place
from kdq.recipe.path import Cell

COLUMNS = {
    "layer": "name of the layer in the network; layers stand in the order of their execution",
    "weights": "weights of the layer",
    "steps": "steps of its alphabet, of 32 bits each: one per row, or one",
    "bits": "bits per weight at which this layer alone is quantized",
    "kl": "mean divergence KL(parent, network with the quantized layer) of the predictions on 1,000 validation images "
    "(all if there are fewer), nats per image",
    "loss": "increase of the cross entropy with the labels of these images, nats per image",
    "accuracy": "loss of accuracy on these images, share of 1",
    "relative_error": "||X W' - X Q'|| / ||X W'|| (Frobenius) of the layer's outputs on the calibration images",
}


@dataclass(frozen=True)
class Measurement:
    """One row of the file, see ``COLUMNS``."""

    layer: str
    weights: int
    steps: int
    bits: int
    kl: float
    loss: float
    accuracy: float
    relative_error: float

    def __str__(self):
        costs = f"KL {self.kl:.3g} nats, loss {self.loss:+.3g} nats, accuracy {0 - self.accuracy:+.4f}"
        return f"{self.layer} alone at {self.bits} bits: {costs}, relative error {self.relative_error:.4f}"


def write(path, measurements: list[Measurement], cell: Cell, **header) -> None:
    """Write the file of ``cell``; floats are the shortest text that gives them back exactly.

    ``header`` holds ``keys`` and ``provenance`` of the measurement.
    """
    lines = [",".join(COLUMNS), *(",".join(map(str, astuple(row))) for row in measurements)]
    write_table(path, "\n".join(lines) + "\n", {"format": FORMAT, **cell.identity, **header})


def read(path) -> list[Measurement]:
    """Return the rows of the file; raise UserError if it is damaged, of another cell, or lacks a finite number."""
    header, text = read_table(path, FORMAT)
    check_place(path, header)
    try:
        rows = list(csv.DictReader(text.splitlines(), strict=True))
        measurements = [Measurement(*(field.type(row[field.name]) for field in fields(Measurement))) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no table of measurements of layers ({error})") from None
    if not measurements:
        raise UserError(f"{path}: an empty table, expected one row per layer and bit-width")
    for row in measurements:
        for field, value in asdict(row).items():
            if not isinstance(value, str) and not math.isfinite(value):
                raise UserError(
                    f"{path}: {row.layer} at {row.bits} bits: {field}: found {value}, expected a finite number"
                )
    return measurements


def by_layer(measurements: list[Measurement]) -> dict[str, dict[int, Measurement]]:
    """Return the rows by layer, in the order of the file, and bits."""
    table: dict[str, dict[int, Measurement]] = {}
    for row in measurements:
        table.setdefault(row.layer, {})[row.bits] = row
    return table
