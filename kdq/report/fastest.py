"""The quickest model that is nearly as accurate as its float network: last words on a study's table of deployment."""

import pandas as pd

from kdq.report.tables.deployment import MACHINE, SAME_TIME, TORCH

NEARLY = 0.01  # of accuracy, a point


def lines(table: pd.DataFrame) -> list[str]:
    """Return a line per data set and processor on the quickest quantized model within a point of its float network.

    Accuracy is compared on the validation part. Of models whose times differ by less than 5% the smallest file wins.
    Without such a model there is no line.
    """
    timed = table[table.latency_ms.notna() & (table.runtime != TORCH)]
    keys = ["dataset", *MACHINE, "recipe", "network", "quantizer"]
    numbers = ["latency_ms", "float_ms", "bfloat16_ms", "onnx_bytes", "onnx_test_top1", "validation_top1"]
    means = timed.groupby(keys, as_index=False).agg({name: "mean" for name in numbers} | {"seed": _listed})
    of_float = means[means.quantizer == "none"].set_index(["dataset", *MACHINE, "recipe"])
    of_float = of_float[numbers].add_suffix("_float")
    quantized = means[means.quantizer != "none"]
    if quantized.empty or of_float.empty:  # then pandas can't join columns of strings
        return []
    quantized = quantized.join(of_float, ["dataset", *MACHINE, "network"])
    near = quantized[quantized.validation_top1 >= quantized.validation_top1_float - NEARLY]
    return [_line(_quickest(group)) for _, group in near.groupby(["dataset", "processor", "threads"])]


def _listed(seeds: pd.Series) -> str:
    """Return "seed 0" or "seeds 0, 1": a study may time some of its seeds alone, whose accuracies are their own."""
    numbers = sorted(set(seeds))
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _quickest(models: pd.DataFrame) -> pd.Series:
    alike = models[models.latency_ms <= models.latency_ms.min() * (1 + SAME_TIME)]
    return alike.sort_values(["onnx_bytes", "latency_ms", "recipe"]).iloc[0]


def _line(row: pd.Series) -> str:
    """Return what the model costs and is worth beside its float network."""
    bfloat16 = "" if pd.isna(row.bfloat16_ms) else f", {row.bfloat16_ms:.3g} in bfloat16"
    return (
        f"{row.dataset}: quickest within a point of its float network (validation): {row.recipe}, "
        f"{row.latency_ms:.3g} ms an image in {row.runtime} (float {row.float_ms:.3g}{bfloat16}), "
        f"{row.onnx_bytes:,.0f} bytes (float {row.onnx_bytes_float:,.0f}), "
        f"test accuracy {100 * row.onnx_test_top1:.2f}% (float {100 * row.onnx_test_top1_float:.2f}%); {row.seed}"
    )
