"""The table of sensitivities: one row per layer and bit-width, for every network whose layers were quantized alone."""

from dataclasses import asdict, fields

import pandas as pd

from kdq.quantize.bits import sensitivity_table as measurements
from kdq.recipe.path import Cell
from kdq.report.tables.schema import Column, Schema, count, text

TYPES = {"str": "text", "int": "count", "float": "number"}
SCHEMA = Schema(
    "sensitivity",
    "one row per layer and bit-width, if a budget asks for it",
    {
        "dataset": text("data set"),
        "seed": count("seed of the calibration"),
        "recipe": text(
            "path of the network, and last the quantizer of its layers: `teacher/kd/gpfq` is `teacher/kd` by `gpfq`"
        ),
        **{
            field.name: Column(TYPES[getattr(field.type, "__name__", field.type)], measurements.COLUMNS[field.name])
            for field in fields(measurements.Measurement)
        },
    },
    form=".6g",  # the divergence at 8 bits is a millionth of that at 2
)


def rows(files: list) -> pd.DataFrame:
    """Return the rows of the files ``sensitivity.csv`` of cells, sorted by data set, recipe and seed.

    The layers of a network stay in the order of their execution.
    """
    table = [Cell.of(file).identity | asdict(row) for file in files for row in measurements.read(file)]
    return SCHEMA.frame(table).sort_values(["dataset", "recipe", "seed"], kind="stable", ignore_index=True)
