"""The table of all cells: one row per cell."""

from kdq.errors import UserError
from kdq.provenance.mixtures import auto_precision
from kdq.recipe.kinds import KINDS, stages_to_float
from kdq.recipe.path import Cell, join, keys_of, name_of, stages
from kdq.report import dkd_choice, precisions
from kdq.report.bits import in_words, mean_bits, with_scale, without_bits
from kdq.report.tables.schema import Column, Schema, bits_per_weight, count, number, share, text, truth
from kdq.roots.keys import is_imported

PARTS = ("validation", "test")
IDENTITY = ("dataset", "seed", "recipe")
SIZES = ("file_bytes", "entropy_bytes", "nominal_bits", "parameters", "sparsity", "quantized_weights")
WORK = ("macs", "bit_operations", "activation_bits")
MEASURES = {
    "top1": ("share of 1", "accuracy on the {} part"),
    "top5": ("share of 1", "images with the label among the five likeliest classes, {} part"),
    "cross_entropy": ("nats per image", "cross entropy with the labels, {} part"),
    "expected_calibration_error": ("share of 1", "expected calibration error, {} part"),
    "agreement_parent": ("share of 1", "images of the class that the parent predicts, {} part; empty for a root"),
    "agreement_root": ("share of 1", "images of the class that the root predicts, {} part; empty for a root"),
}


def _columns_of(part: str) -> dict[str, Column]:
    return {f"{part}_images": count(f"size of the {part} part", unit="images")} | {
        f"{part}_{measure}": number(text.format(part), unit=unit, optional=measure.startswith("agreement"))
        for measure, (unit, text) in MEASURES.items()
    }


KIND_NAMES = ", ".join(f"`{name}`" for name in KINDS)
SCHEMA = Schema(
    "table",
    "one row per cell, and one per model that a cell descends from",
    {
        "dataset": text("data set"),
        "seed": count("seed of the cell's training and calibration"),
        "recipe": text("path of the model: its stages, joined by `/`"),
        "kind": text(f"kind of the last stage: one of {KIND_NAMES}"),
        "root": text("first stage"),
        "validation_seen": truth(
            "`true` if the root was imported: it may have been trained on the validation images too, so that all that "
            "is chosen on these, for it and for what descends from it, is chosen too favourably; empty if the root is "
            "no row",
            optional=True,
        ),
        "network": text("the float network: the recipe up to its last float model"),
        "method": text("last stage of `network`, as the recipe spells it"),
        "method_name": text("the name in `method`"),
        "alpha": number("weight of the target class if `method_name` is `dkd`, else empty", optional=True),
        "beta": number("weight of the other classes if `method_name` is `dkd`, else empty", optional=True),
        "chosen": truth(
            "`true` for the cell of the grid over `alpha` and `beta` with the best mean validation accuracy (among "
            "equals the least validation cross entropy), `false` for the others; empty outside the grid",
            optional=True,
        ),
        "quantizer": text(
            "the stages after `network`, joined by `+`, without their bits, of a budget the word alone; `none` for a "
            "float model; a scale that the config sets is spelled out"
        ),
        "quantizer_name": text(
            "the names in `quantizer`, each with its step: of `rtn` always, of others unless it is the searched one"
        ),
        "bits": bits_per_weight(
            "bits of the alphabet, their mean over the weights if layers differ, 32 for those of a layer that stays "
            "float; 32 for a float model, even with the random head of `ntklc`"
        ),
        "levels": text(
            "kind of alphabet (`2^b`, `2^b-1`, `paper`); empty for a model without alphabets", optional=True
        ),
        "activation_bits": count("bits of the quantized activations; 32 for float ones", unit="bits per activation"),
        **_columns_of("validation"),
        **_columns_of("test"),
        "file_bytes": count("size of the model's file", unit="bytes"),
        "entropy_bytes": count(
            "size of the file's archive, in which the codes are entropy coded; empty for a float model",
            unit="bytes",
            optional=True,
        ),
        "nominal_bits": number(
            "mean over the quantized weights of log2 of their alphabet's levels, with 32 for each weight of a layer "
            "that stays float; 32 for a float model",
            unit="bits per weight",
        ),
        "parameters": count("parameters of the network, without those that were pruned"),
        "sparsity": share("share of the weights of all convolutions and linear layers that were pruned"),
        "quantized_weights": count("weights that are stored as codes; 0 for a float model"),
        "macs": count(
            "multiply-accumulates of all convolutions and linear layers, without those of pruned weights; the products "
            "of attention are not counted",
            unit="per image",
        ),
        "bit_operations": count(
            "sum over these layers of multiply-accumulates times bits per weight times bits per activation, 32 by 32 "
            "for a layer that stays float",
            unit="per image",
        ),
        "epochs": count("epochs of the last stage's training; empty if it did not train here", optional=True),
        "training_flops": number(
            "floating-point operations of the last stage's training, the passes of its teacher included, the training "
            "of what it descends from not; empty if it did not train here or they were not counted",
            unit="operations",
            optional=True,
        ),
        "mean_relative_layer_error": share(
            "mean over the quantized layers of the relative output error on the calibration images; empty for a float "
            "model and for one that was trained after it was quantized",
            optional=True,
        ),
        "auto_precision": text(
            "what `precision: auto` was when the model and those that it descends from were trained: `bfloat16`, "
            "`float32`, or `bfloat16+float32` if their machines differed; empty if none was trained with `auto`",
            optional=True,
        ),
    },
)


def rows(cells: list[dict], kinds: dict[str, str], dkd_grid=(), operations: dict[Cell, int] | None = None):
    """Return the table of the cells' metrics, a DataFrame sorted by data set, recipe and seed.

    ``kinds`` is the kind of every stage by its name, ``dkd_grid`` the recipes of the grid over DKD's weights,
    ``operations`` those of the trainings that were counted. Raise UserError for a stage that is not in ``kinds``.
    """
    for recipe in {cell["recipe"] for cell in cells}:
        if unknown := {name_of(stage) for stage in stages(recipe)} - kinds.keys():
            raise UserError(f"metrics of {recipe!r}: the stage {min(unknown)!r} is not in the study")
    keys = {(cell["dataset"], cell["seed"], cell["recipe"]): cell["keys"] for cell in cells}
    if len(keys) < len(cells):
        raise UserError(f"metrics of {len(cells):,} files: found {len(keys):,} cells, expected each cell once")
    trained = {cell: auto_precision(metrics) for cell, metrics in zip(keys, cells, strict=True)}
    counted = ({"training_flops": (operations or {}).get(Cell(*key))} for key in keys)
    described = (_row(cell, keys, kinds) | _auto_precision(cell, trained) for cell in cells)
    table = SCHEMA.frame([row | count for row, count in zip(described, counted, strict=True)])
    in_grid = table.recipe.isin(list(dkd_grid))
    for _, grid in table[in_grid].groupby("dataset"):
        chosen = dkd_choice.choose(grid)
        table.loc[grid.index, "chosen"] = (grid.alpha == chosen[0]) & (grid.beta == chosen[1])
    return table.sort_values(["dataset", "recipe", "seed"], ignore_index=True)


def _row(cell: dict, keys: dict, kinds: dict[str, str]) -> dict:
    """Return the row of a cell's metrics; ``keys`` are the resolved keys of all cells' last stages."""
    path = stages(cell["recipe"])
    names = [name_of(stage) for stage in path]
    length = stages_to_float(KINDS[kinds[name]] for name in names)
    network, method = join(*path[:length]), path[length - 1]
    quantizers = [
        with_scale(path[index], keys.get((cell["dataset"], cell["seed"], join(*path[: index + 1])), {}))
        for index in range(length, len(path))
    ]
    is_dkd = names[length - 1] == "dkd"
    weights = keys.get((cell["dataset"], cell["seed"], network), {}) if is_dkd else {}
    root, layers = (cell["dataset"], cell["seed"], path[0]), cell["layers"]
    alphabets = [layer for layer in layers if "bits" in layer]  # the ternary layers of a random head have none
    row = {
        **{name: cell[name] for name in (*IDENTITY, *SIZES, *WORK)},
        "kind": kinds[names[-1]],
        "root": path[0],
        "validation_seen": is_imported(keys[root]) if root in keys else None,
        "network": network,
        "method": method,
        "method_name": names[length - 1],
        "epochs": cell["keys"].get("epochs"),
        "alpha": weights.get("alpha"),
        "beta": weights.get("beta"),
        "quantizer": "+".join(map(without_bits, quantizers)) or "none",
        "quantizer_name": "+".join(map(_named, quantizers)) or "none",
        "bits": mean_bits(alphabets) if alphabets else 32,
        "levels": next((layer["levels"] for layer in alphabets if layer["levels"] != "float"), None),
        "mean_relative_layer_error": _mean(
            [layer.get("relative_error") for layer in layers if layer["levels"] != "float"]
        ),
    }
    measured = {f"{part}_{name}": cell[part].get(name) for part in PARTS for name in ("images", *MEASURES)}
    return row | measured


def _named(stage: str) -> str:
    """Return a stage's name with its step in words, as in the column ``quantizer_name``."""
    scale = keys_of(stage).get("scale")
    return in_words(name_of(stage) + (f",scale={scale}" if scale else ""))


def _auto_precision(cell: dict, trained: dict) -> dict:
    """Return the column ``auto_precision`` of a cell; ``trained`` has what `auto` was in all cells' last stages."""
    path = stages(cell["recipe"])
    line = [(cell["dataset"], cell["seed"], join(*path[:length])) for length in range(1, len(path) + 1)]
    return {"auto_precision": precisions.joined({trained.get(model) for model in line})}


def _mean(values: list) -> float | None:
    """Return the mean, None if there are no values or one is missing."""
    return None if not values or None in values else sum(values) / len(values)
