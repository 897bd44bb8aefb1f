"""The table of layers: one row per quantized layer of a cell."""

import pandas as pd

from kdq.report.tables.schema import Schema, count, number, share, text

SCHEMA = Schema(
    "layers",
    "one row per layer of a quantized cell",
    {
        "dataset": text("data set"),
        "seed": count("seed of the cell's calibration"),
        "recipe": text("path of the model: its stages, joined by `/`"),
        "layer": text("name of the layer in the network"),
        "weights": count("weights of the layer"),
        "bits": count(
            "bits of the layer's alphabet, 32 for a layer that stays float; empty for a random layer of `ntklc`",
            unit="bits per weight",
            optional=True,
        ),
        "levels": text(
            "kind of alphabet (`2^b`, `2^b-1`, `paper`), `ternary` for a random layer, `float` for one that stays so",
            optional=True,
        ),
        "scale": number(
            "the C of the steps: the largest code times the step is C times the weights' radius; mean over the rows; "
            "empty if the steps were trained afterwards, or for a layer that stays float",
            optional=True,
        ),
        "relative_error": share(
            "||X W' - X~ Q'|| / ||X W'|| (Frobenius) of the layer's outputs on the calibration images; empty if the "
            "codes were trained afterwards, or for a layer that stays float",
            optional=True,
        ),
    },
)


def rows(cells: list[dict]) -> pd.DataFrame:
    """Return the layers of the cells' metrics, sorted by data set, recipe and seed, in the order of each network."""
    table = [{**cell, "layer": layer["name"], **layer} for cell in cells for layer in cell["layers"]]
    return SCHEMA.frame(table).sort_values(["dataset", "recipe", "seed"], kind="stable", ignore_index=True)
