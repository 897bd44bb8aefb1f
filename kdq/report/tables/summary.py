"""The summary over seeds: the mean and standard deviation of the main measures per data set and recipe."""

from statistics import fmean

import pandas as pd

from kdq.recipe.kinds import KINDS
from kdq.report import precisions
from kdq.report.pairs import shares_root
from kdq.report.tables.cells import SCHEMA as CELLS
from kdq.report.tables.schema import Schema, count, number, text

IDENTITY = (
    *(
        "dataset",
        "recipe",
        "kind",
        "root",
        "validation_seen",
        "network",
        "method",
        "method_name",
        "alpha",
        "beta",
        "chosen",
    ),
    *("quantizer", "quantizer_name", "bits", "levels", "activation_bits", "parameters", "epochs"),
)
MEASURES = (
    *("validation_top1", "validation_cross_entropy", "test_top1", "test_top5", "test_cross_entropy"),
    *("test_expected_calibration_error", "test_agreement_parent", "test_agreement_root"),
    *("file_bytes", "entropy_bytes", "macs", "bit_operations", "sparsity", "training_flops"),
    "mean_relative_layer_error",
)
SINGLE_SEED = "single seed"


MEASURED = {measure: CELLS.columns[measure] for measure in MEASURES}

SCHEMA = Schema(
    "summary",
    "one row per data set and recipe, over all seeds",
    {name: CELLS.columns[name] for name in IDENTITY}
    | {
        "seeds": count("number of seeds; 1 for a root that all seeds share, one model"),
        "note": text(f"`{SINGLE_SEED}`, `mean of N seeds`, or `one model for N seeds`"),
        "auto_precision": text("as in `table.csv`, over all seeds", optional=True),
    }
    | {
        f"{measure}_mean": number(f"mean over the seeds: {column.meaning}", unit=column.unit, optional=column.optional)
        for measure, column in MEASURED.items()
    }
    | {
        f"{measure}_std": number(
            f"sample standard deviation of `{measure}`; empty for one seed", unit=column.unit, optional=True
        )
        for measure, column in MEASURED.items()
    },
)


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of the table of all cells, sorted by data set and recipe."""
    model = ["dataset", "recipe"]
    table = table.sort_values([*model, "seed"])
    counts = table.groupby(model).size()
    shared = ~table.kind.map(lambda name: KINDS[name].has_parent) & table.recipe.map(shares_root)
    rows = table[~(shared & table.duplicated(model))].astype(dict.fromkeys(MEASURES, "float64")).groupby(model)
    summary = rows[list(IDENTITY)].head(1).set_index(model, drop=False)
    summary["bits"] = rows.bits.agg(fmean)  # under a budget they differ from seed to seed
    summary["seeds"] = rows.size()
    summary["note"] = [_note(seeds, count) for seeds, count in zip(summary.seeds, counts, strict=True)]
    summary["auto_precision"] = rows.auto_precision.agg(lambda values: precisions.joined(precisions.among(values)))
    for measure in MEASURES:
        # fmean is exact: equal models have equal means, whatever the order of their seeds
        summary[f"{measure}_mean"] = rows[measure].agg(
            lambda values: fmean(known) if len(known := values.dropna()) else None
        )
        summary[f"{measure}_std"] = rows[measure].std()
    return SCHEMA.frame(summary.reset_index(drop=True))


def _note(seeds: int, count: int) -> str:
    if count == 1:
        return SINGLE_SEED
    return f"mean of {count} seeds" if seeds == count else f"one model for {count} seeds"
