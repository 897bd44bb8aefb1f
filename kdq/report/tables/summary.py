"""The summary over seeds: for each data set and recipe the mean and the standard deviation of the main measures."""

from itertools import groupby
from statistics import fmean, stdev

from kdq.report.pairs import shares_root
from kdq.report.tables.cells import COLUMNS as TABLE_COLUMNS

IDENTITY = (
    "dataset",
    "recipe",
    "kind",
    "root",
    "network",
    "method",
    "method_name",
    "alpha",
    "beta",
    "chosen",
    "quantizer",
    "quantizer_name",
    "bits",
    "levels",
)
MEASURES = (
    "validation_top1",
    "validation_cross_entropy",
    "test_top1",
    "test_top5",
    "test_cross_entropy",
    "test_expected_calibration_error",
    "test_agreement_parent",
    "test_agreement_root",
    "file_bytes",
    "entropy_bytes",
    "mean_relative_layer_error",
)
SINGLE_SEED = "single seed"
COLUMNS = (
    {column: TABLE_COLUMNS[column] for column in IDENTITY}
    | {
        "seeds": "number of seeds; 1 for a root that all seeds share, one model",
        "note": f"`{SINGLE_SEED}` where there is one, else `mean of N seeds`, or `one model for N seeds`",
    }
    | {f"{measure}_mean": f"mean over the seeds: {TABLE_COLUMNS[measure]}" for measure in MEASURES}
    | {f"{measure}_std": f"sample standard deviation of `{measure}`; empty for one seed" for measure in MEASURES}
)


def mean_and_deviation(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); None for what there are too few values for."""
    if not values:
        return None, None
    return fmean(values), stdev(values) if len(values) > 1 else None


def summarize(table: list[dict]) -> list[dict]:
    """The rows of the summary, sorted by data set and recipe, of the rows of the table."""

    def cell(row):
        return row["dataset"], row["recipe"]

    return [_summarize(list(rows)) for _, rows in groupby(sorted(table, key=cell), cell)]


def _summarize(rows: list[dict]) -> dict:
    summary = {column: rows[0][column] for column in IDENTITY}
    note = f"mean of {len(rows)} seeds"
    if summary["kind"] == "root" and shares_root(summary["recipe"]):
        rows, note = rows[:1], f"one model for {len(rows)} seeds"
    if len({row["bits"] for row in rows}) > 1:  # under a budget each seed's network has its own
        summary["bits"] = fmean(row["bits"] for row in rows)
    summary["seeds"] = len(rows)
    summary["note"] = SINGLE_SEED if note == "mean of 1 seeds" else note
    for measure in MEASURES:
        values = [row[measure] for row in rows if row[measure] is not None]
        summary[f"{measure}_mean"], summary[f"{measure}_std"] = mean_and_deviation(values)
    return {column: summary[column] for column in COLUMNS}
