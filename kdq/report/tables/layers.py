"""The table of layers: one row a quantized layer of a cell."""

COLUMNS = {
    "dataset": "data set",
    "seed": "seed of the cell's calibration",
    "recipe": "path of the model: its stages, joined by `/`",
    "layer": "name of the layer in the network",
    "weights": "weights of the layer",
    "bits": "bits a weight of the layer's alphabet; empty for a random layer of `ntklc`",
    "levels": "kind of alphabet (`2^b`, `2^b-1`, `paper`), or `ternary` for a random layer",
    "scale": "the C of the steps: the largest code times the step is C times the weights' radius; mean over the rows; "
    "empty where the steps were trained afterwards",
    "relative_error": "||X W' - X~ Q'|| / ||X W'|| (Frobenius) of the layer's outputs on the calibration images; "
    "empty where the codes were trained afterwards",
}


def rows(cells: list[dict]) -> list[dict]:
    """The rows of all quantized layers of the cells' metrics, sorted by data set, recipe and seed."""
    ordered = sorted(cells, key=lambda cell: (cell["dataset"], cell["recipe"], cell["seed"]))
    identity = ("dataset", "seed", "recipe")
    return [
        {name: cell[name] for name in identity} | {"layer": layer["name"]} | _facts(layer)
        for cell in ordered
        for layer in cell["layers"]
    ]


def _facts(layer: dict) -> dict:
    return {name: layer.get(name) for name in list(COLUMNS)[4:]}
