"""The table of layers: one row per quantized layer of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdq.report.tables.schema import Column, Schema

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = Schema(
    "layers",
    "one row per quantized layer of a cell",
    {
        "dataset": Column("text", "", "data set"),
        "seed": Column("count", "", "seed of the cell's calibration"),
        "recipe": Column("text", "", "path of the model: its stages, joined by `/`"),
        "layer": Column("text", "", "name of the layer in the network"),
        "weights": Column("count", "", "weights of the layer"),
        "bits": Column(
            "count", "bits per weight", "bits of the layer's alphabet; empty for a random layer of `ntklc`", True
        ),
        "levels": Column(
            "text", "", "kind of alphabet (`2^b`, `2^b-1`, `paper`), or `ternary` for a random layer", True
        ),
        "scale": Column(
            "number",
            "",
            "the C of the steps: the largest code times the step is C times the weights' radius; mean over the rows; "
            "empty if the steps were trained afterwards",
            True,
        ),
        "relative_error": Column(
            "number",
            "share of 1",
            "||X W' - X~ Q'|| / ||X W'|| (Frobenius) of the layer's outputs on the calibration images; empty if the "
            "codes were trained afterwards",
            True,
        ),
    },
)


def rows(cells: list[dict]) -> pd.DataFrame:
    """Return the layers of the cells' metrics, sorted by data set, recipe and seed, in the order of each network."""
    table = SCHEMA.frame(
        [
            {
                "dataset": cell["dataset"],
                "seed": cell["seed"],
                "recipe": cell["recipe"],
                "layer": layer["name"],
                **layer,
            }
            for cell in cells
            for layer in cell["layers"]
        ]
    )
    return table.sort_values(["dataset", "recipe", "seed"], kind="stable", ignore_index=True)
