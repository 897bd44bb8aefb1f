"""The table of sensitivities: one row a layer and bit-width, for every network whose layers were quantized alone."""

from dataclasses import asdict
from pathlib import Path

from kdq.quantize.bits import sensitivity_table as measurements

COLUMNS = {
    "dataset": "data set",
    "seed": "seed of the calibration",
    "recipe": "path of the network, and last the quantizer of its layers: `teacher/kd/gpfq` is `teacher/kd` by `gpfq`",
    **measurements.COLUMNS,
}
NUMBER = ".6g"  # the divergence at 8 bits is a millionth of that at 2


def rows(files: list) -> list[dict]:
    """The rows of the files ``results/<dataset>/seed=<n>/<recipe>/sensitivity.csv``, sorted by data set, recipe, seed.

    The layers of a network stay in the order of their execution.
    """
    found = [identity(file) | asdict(row) for file in files for row in measurements.read(file)]
    return sorted(found, key=lambda row: (row["dataset"], row["recipe"], row["seed"]))


def identity(file) -> dict:
    """Data set, seed and recipe, which the path of a cell's file says."""
    _, dataset, seed, *recipe = Path(file).parent.parts
    return {"dataset": dataset, "seed": int(seed.removeprefix("seed=")), "recipe": "/".join(recipe)}
