"""The file of measurements: what each layer costs that alone is quantized, at every bit-width."""

import csv
from dataclasses import astuple, dataclass, fields

from kdq.errors import UserError
from kdq.provenance.files import atomic

COLUMNS = {
    "layer": "name of the layer in the network; layers stand in the order of their execution",
    "weights": "weights of the layer",
    "steps": "steps of its alphabet, of 32 bits each: one a row, or one",
    "bits": "bits a weight at which this layer alone is quantized",
    "kl": "mean divergence KL(parent, network with the quantized layer) of the predictions on the calibration images, "
    "nats an image",
    "loss": "increase of the cross entropy with the labels of the calibration images, nats an image",
    "accuracy": "loss of accuracy on the calibration images, share of 1",
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


def write(path, measurements: list[Measurement]) -> None:
    """Write the file as CSV; floats as the shortest text that gives them back exactly."""
    lines = [",".join(COLUMNS), *(",".join(map(str, astuple(row))) for row in measurements)]
    with atomic(path) as aside:
        aside.write_text("\n".join(lines) + "\n")


def read(path) -> list[Measurement]:
    """What :func:`write` wrote; raises UserError that names the file where it is missing or something else."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        found = [Measurement(*(field.type(row[field.name]) for field in fields(Measurement))) for row in rows]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no table of measurements of layers ({error})") from None
    if not found:
        raise UserError(f"{path}: an empty table, expected a row a layer and bit-width")
    return found


def by_layer(measurements: list[Measurement]) -> dict[str, dict[int, Measurement]]:
    """The rows of each layer by its bits, layers in the order of the file."""
    table: dict[str, dict[int, Measurement]] = {}
    for row in measurements:
        table.setdefault(row.layer, {})[row.bits] = row
    return table
