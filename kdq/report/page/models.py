"""Models as the page holds them: rows of numbers in plain sight, the rest of each cell packed until it is opened."""

import base64
import json
import zlib
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from kdq.recipe.path import Cell
from kdq.report.bits import in_words
from kdq.report.page.sources import Sources
from kdq.report.tables.summary import MEASURES

DESCRIBED = ("dataset", "recipe", "kind", "network", "method_name", "bits", "activation_bits", "parameters")
CELL = ["dataset", "seed", "recipe"]
DIGITS = 6  # significant ones of the numbers of an epoch


@dataclass(frozen=True)
class Measure:
    """A number that a model has: ``form`` is how it is written, ``better`` whether more or less of it is.

    ``chosen_by`` is the measure of the validation part by which the front is chosen, "" if there is none.
    """

    name: str
    label: str
    form: str
    better: str = ""
    chosen_by: str = ""


COSTS = (
    Measure("bits", "bits per weight", "bits", "less"),
    Measure("file_bytes", "bytes of the model file", "bytes", "less"),
    Measure("entropy_bytes", "bytes, entropy coded", "bytes", "less"),
    Measure("onnx_bytes", "bytes of the ONNX file", "bytes", "less"),
    Measure("bit_operations", "bit-operations per image", "count", "less"),
    Measure("macs", "multiply-accumulates per image", "count", "less"),
    Measure("sparsity", "share of the weights that were pruned", "share", "more"),
    Measure("training_flops", "operations of the last training", "count", "less"),
    Measure("activation_bits", "bits per activation", "bits", "less"),
)
MERITS = (
    Measure("test_top1", "test accuracy", "share", "more", "validation_top1"),
    Measure("test_cross_entropy", "test cross entropy (nats)", "number", "less", "validation_cross_entropy"),
    Measure("test_top5", "test accuracy, top 5", "share", "more"),
    Measure("test_expected_calibration_error", "expected calibration error", "share", "less"),
    Measure("test_agreement_parent", "agreement with the parent", "share", "more"),
    Measure("test_agreement_root", "agreement with the root", "share", "more"),
    Measure("mean_relative_layer_error", "mean relative layer error", "share", "less"),
    Measure("validation_top1", "validation accuracy", "share", "more"),
    Measure("validation_cross_entropy", "validation cross entropy (nats)", "number", "less"),
)


def rows(sources: Sources) -> dict:
    """Return the models twice, ``mean`` over the seeds and each ``seed`` alone, and the measures that any has."""
    table, summary = sources.tables["table"], sources.tables["summary"]
    times, timed = _times(sources.tables.get("deployment", table[CELL]))
    means = summary.rename(columns={f"{name}_mean": name for name in MEASURES})
    seeds = table.groupby(["dataset", "recipe"]).seed.agg(lambda values: sorted(map(int, values)))
    # of a study that prunes nothing no measure
    means, table = (models.assign(sparsity=models.sparsity.where(models.sparsity > 0)) for models in (means, table))
    means = means.assign(seeds=[seeds[row.dataset, row.recipe] for row in means.itertuples()])
    single = table.assign(seeds=[[int(seed)] for seed in table.seed])
    over_seeds = times.drop(columns="seed").groupby(["dataset", "recipe"], as_index=False).mean(numeric_only=True)
    measures = [asdict(measure) for measure in (*COSTS[:4], *timed, *COSTS[4:], *MERITS)]
    levels = {
        "mean": means.merge(over_seeds, "left", ["dataset", "recipe"]),
        "seed": single.merge(times, "left", CELL),
    }
    shown = [measure for measure in measures if levels["seed"].get(measure["name"], pd.Series()).notna().any()]
    names = [measure["name"] for measure in shown]
    return {"measures": shown} | {level: _plain(frame, names) for level, frame in levels.items()}


def _plain(frame: pd.DataFrame, measures: list[str]) -> list[dict]:
    """Return the rows as plain values, without those that are missing."""
    frame = frame.assign(quantizer=[in_words(name) if name != "none" else "" for name in frame.quantizer])
    deviations = [f"{name}_std" for name in measures if f"{name}_std" in frame]
    columns = dict.fromkeys([*DESCRIBED, "quantizer", "seeds", *measures, *deviations])
    records = frame[list(columns)].astype(object).to_dict("records")
    return [{name: _value(value) for name, value in row.items() if _is_there(value)} for row in records]


def _is_there(value) -> bool:
    return isinstance(value, list | str) or not pd.isna(value)


def _value(value):
    return value if isinstance(value, list | str) else _short(value)


def _short(value: float) -> int | float:
    """Return a number as few letters tell it: whole ones without a point."""
    return int(value) if float(value).is_integer() else float(value)


def _times(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Measure]]:
    """Return milliseconds and ONNX bytes, a row per cell, and a measure per runtime, processor and threads.

    ``table`` is that of deployment; of one without times the cells alone are returned.
    """
    if "onnx_bytes" not in table:
        return table, []
    cells = table.drop_duplicates(CELL)[[*CELL, "onnx_bytes"]].astype({"onnx_bytes": "float64"})
    measures = []
    ran = table[table.latency_ms.notna()]
    machines = ran.groupby(["processor", "threads"]).ngroups
    for place, ((runtime, processor, threads), group) in enumerate(ran.groupby(["runtime", "processor", "threads"])):
        where = f", {processor}, threads: {threads}" if machines > 1 else ""
        measures.append(Measure(f"ms{place}", f"milliseconds per image, {runtime}{where}", "ms", "less"))
        cells = cells.merge(group[[*CELL, "latency_ms"]].rename(columns={"latency_ms": f"ms{place}"}), "left")
    return cells, measures


def packed(sources: Sources) -> list[list]:
    """Return for each cell its data set, seed, recipe, and what is unpacked when it is opened: zlib in base64."""
    timed = _cells(sources.tables.get("deployment"))
    return [
        [cell.dataset, cell.seed, cell.recipe, pack(details(sources, cell, timed))] for cell in sorted_cells(sources)
    ]


def sorted_cells(sources: Sources) -> list[Cell]:
    return sorted(sources.metrics, key=lambda cell: (cell.dataset, cell.recipe, cell.seed))


def _cells(table: pd.DataFrame | None) -> set[Cell]:
    return set() if table is None else {Cell(*row) for row in table[CELL].itertuples(index=False)}


def pack(value) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def details(sources: Sources, cell: Cell, timed: set[Cell]) -> dict:
    """Return what is shown of a cell alone."""
    metrics, history = sources.metrics[cell], sources.histories.get(cell)
    trained = history is not None and len(history)
    files = ["model.safetensors", *(["history.csv"] if history is not None else []), "metrics.json"]
    files += ["predictions.safetensors", *(["model.onnx", "latency.json"] if cell in timed else [])]
    return {
        "keys": metrics["keys"],
        "provenance": metrics.get("provenance", {}),
        "evaluation": metrics.get("evaluation", {}),
        "layers": [[layer["name"], layer.get("bits"), layer.get("relative_error")] for layer in metrics["layers"]],
        "history": [_column(history[name]) for name in ("epoch", "loss", "validation_accuracy")] if trained else None,
        "wrong": wrong(sources.predicted[cell], sources.parts[cell.dataset].labels),
        "files": files,
    }


def _column(values: pd.Series) -> list:
    """Return the numbers of a column, None for what is no number, such as the loss of a diverged epoch."""
    numbers = [float(f"{value:.{DIGITS}g}") for value in values]
    return [_short(number) if np.isfinite(number) else None for number in numbers]


def wrong(predicted: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """Return the images that are classified wrongly: how many follow the one before, and their predicted classes.

    Few images of a good model are, so that this is the shortest form of all predictions.

    >>> wrong(np.array([0, 1, 2, 2, 1]), np.array([0, 1, 1, 2, 0]))
    [[3, 2], [2, 1]]
    """
    places = np.flatnonzero(predicted != labels)
    return [np.diff(places, prepend=-1).tolist(), predicted[places].tolist()]
