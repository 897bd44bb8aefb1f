"""The table of all cells: one row a cell, columns with fixed names, units and formats."""

import csv
import io

from kdq.errors import UserError
from kdq.provenance.files import atomic, checked, read_json
from kdq.recipe.kinds import KINDS
from kdq.report import dkd_choice
from kdq.report.bits import mean_bits, without_bits
from kdq.report.metrics import Metrics

MEASURES = ("top1", "top5", "cross_entropy", "expected_calibration_error", "agreement_parent", "agreement_root")
PARTS = ("validation", "test")
SIZES = ("file_bytes", "entropy_bytes", "nominal_bits", "parameters", "quantized_weights")

COLUMNS = {
    "dataset": "data set",
    "seed": "seed of the cell's training and calibration",
    "recipe": "path of the model: its stages, joined by `/`",
    "kind": "kind of the last stage: `root`, `distill`, `quantize` or `retrain`",
    "root": "first stage",
    "network": "the recipe up to its last stage of kind `root` or `distill`: the float network",
    "method": "last stage of `network`, as the recipe spells it",
    "method_name": "the name in `method`",
    "alpha": "weight of the target class where `method_name` is `dkd`, else empty",
    "beta": "weight of the other classes where `method_name` is `dkd`, else empty",
    "chosen": "`true` for the cell of the grid over `alpha` and `beta` with the best mean validation accuracy (of "
    "equal ones, the least validation cross entropy), `false` for its others; empty for what is not of the grid",
    "quantizer": "the stages after `network`, joined by `+`, without their bits, of a budget the word alone; `none` "
    "for a float model",
    "quantizer_name": "the names in `quantizer`",
    "bits": "bits a weight of the alphabet, their mean over the weights where layers differ; 32 for a float model, "
    "also with the random head of `ntklc`",
    "levels": "kind of alphabet (`2^b`, `2^b-1`, `paper`); empty where `bits` is 32",
    "validation_images": "images of the validation part",
    "validation_top1": "accuracy on the validation part, share of 1",
    "validation_top5": "label among the five likeliest classes, validation part, share of 1",
    "validation_cross_entropy": "cross entropy with the labels, validation part, nats an image",
    "validation_expected_calibration_error": "expected calibration error, validation part, share of 1",
    "validation_agreement_parent": "same class as the parent predicts, validation part, share of 1; empty for a root",
    "validation_agreement_root": "same class as the root predicts, validation part, share of 1; empty for a root",
    "test_images": "images of the test part",
    "test_top1": "accuracy on the test part, share of 1",
    "test_top5": "label among the five likeliest classes, test part, share of 1",
    "test_cross_entropy": "cross entropy with the labels, test part, nats an image",
    "test_expected_calibration_error": "expected calibration error, test part, share of 1",
    "test_agreement_parent": "same class as the parent predicts, test part, share of 1; empty for a root",
    "test_agreement_root": "same class as the root predicts, test part, share of 1; empty for a root",
    "file_bytes": "size of the model's file, bytes",
    "entropy_bytes": "size of the file's archive, in which the codes are entropy coded, bytes; empty for a float model",
    "nominal_bits": "mean over the quantized weights of log2 of their alphabet's levels, bits; 32 for a float model",
    "parameters": "parameters of the network",
    "quantized_weights": "weights that are stored as codes; 0 for a float model",
    "mean_relative_layer_error": "mean over the quantized layers of each one's relative output error on the "
    "calibration images; empty for a float model and for one that was trained after it was quantized",
}
COUNTS = (
    "seed",
    "seeds",
    "bits",
    "validation_images",
    "test_images",
    "file_bytes",
    "entropy_bytes",
    "parameters",
    "quantized_weights",
    "weights",
    "other_bits",
    "other_parameters",
    "epochs",
    "other_epochs",
    "steps",
)
TEXTS = (
    "dataset",
    "recipe",
    "layer",
    "kind",
    "root",
    "network",
    "method",
    "method_name",
    "quantizer",
    "quantizer_name",
    "levels",
    "note",
    "family",
    "other",
    "question",
    "sequence",
    "other_sequence",
    "design",
    "test",
)
TRUTHS = ("chosen", "within_noise")


def read_metrics(path) -> dict:
    """A cell's metrics; raises UserError where the file is not the JSON object that ``evaluate`` writes."""
    return checked(path, Metrics, read_json(path)).model_dump(exclude_unset=True)


def rows(cells: list[dict], kinds: dict[str, str], dkd_grid=()) -> list[dict]:
    """The rows of the table, sorted by data set, recipe and seed.

    ``kinds`` gives the kind of every stage's name, ``dkd_grid`` the recipes of the grid over DKD's weights.
    """
    by_cell = {(cell["dataset"], cell["seed"], cell["recipe"]): cell for cell in cells}
    for recipe in {recipe for _, _, recipe in by_cell}:
        if unknown := {stage.split(",")[0] for stage in recipe.split("/")} - kinds.keys():
            raise UserError(f"metrics of {recipe!r}: the stage {min(unknown)!r} is none of the study's")
    found = [_row(cell, by_cell, kinds) for cell in by_cell.values()]
    dkd_grid = set(dkd_grid)
    of_grid = [cell for cell in by_cell.values() if cell["recipe"] in dkd_grid]
    for dataset in {cell["dataset"] for cell in of_grid}:
        grid = dkd_choice.by_weights([cell for cell in of_grid if cell["dataset"] == dataset])
        chosen = dkd_choice.choose(grid)
        for row in found:
            if row["dataset"] == dataset and row["recipe"] in dkd_grid:
                row["chosen"] = (row["alpha"], row["beta"]) == chosen
    return sorted(found, key=lambda row: (row["dataset"], row["recipe"], row["seed"]))


def _row(cell: dict, by_cell: dict, kinds: dict[str, str]) -> dict:
    stages = cell["recipe"].split("/")
    names = [stage.split(",")[0] for stage in stages]
    length = 1 + max(index for index, name in enumerate(names) if KINDS[kinds[name]].makes_network)
    network = "/".join(stages[:length])
    made_by = by_cell.get((cell["dataset"], cell["seed"], network), {}).get("keys", {})
    of_dkd = made_by if names[length - 1] == "dkd" else {}
    layers = cell["layers"]
    alphabets = [layer for layer in layers if "bits" in layer]  # which the ternary layers of a random head have not
    row = {
        "dataset": cell["dataset"],
        "seed": cell["seed"],
        "recipe": cell["recipe"],
        "kind": kinds[names[-1]],
        "root": stages[0],
        "network": network,
        "method": stages[length - 1],
        "method_name": names[length - 1],
        "alpha": of_dkd.get("alpha"),
        "beta": of_dkd.get("beta"),
        "chosen": None,
        "quantizer": "+".join(map(without_bits, stages[length:])) or "none",
        "quantizer_name": "+".join(names[length:]) or "none",
        "bits": mean_bits(alphabets) if alphabets else 32,
        "levels": alphabets[0]["levels"] if alphabets else None,
        **{name: cell[name] for name in SIZES},
        "mean_relative_layer_error": _mean([layer.get("relative_error") for layer in layers]),
    }
    for part in PARTS:
        row |= {f"{part}_{measure}": cell[part].get(measure) for measure in ("images", *MEASURES)}
    return {column: row[column] for column in COLUMNS}


def _mean(values: list) -> float | None:
    """None where there are no values or one is not known."""
    return None if not values or None in values else sum(values) / len(values)


def write(path, columns, table: list[dict], number: str = ".6f") -> None:
    """Write rows as CSV: an empty field for None, numbers that are no counts in the format ``number``, six decimals.

    The same rows give the same bytes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _field(row[column], number) for column in columns} for row in table)
    with atomic(path) as aside:
        aside.write_text(text.getvalue())


def _field(value, number: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, number) if isinstance(value, float) else str(value)


def read(path) -> list[dict]:
    """The rows of a table that :func:`write` wrote, with numbers as numbers and None for an empty field.

    Raises UserError for a file that is no such table.
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        return [{column: _value(column, field) for column, field in row.items()} for row in rows]
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable as a table of this workflow ({error})") from None


def _value(column: str, field: str):
    if field == "":
        return None
    if column in TEXTS:
        return field
    if column in TRUTHS:
        return field == "true"
    return int(field) if column in COUNTS and "." not in field else float(field)  # bits may be a mean
