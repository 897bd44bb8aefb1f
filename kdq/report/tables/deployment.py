"""The table of deployment: what each model's ONNX file costs and is worth, one row per cell and runtime."""

import pandas as pd

from kdq.errors import UserError
from kdq.report.latency import Latency, Runtime
from kdq.report.tables.cells import SCHEMA as CELLS
from kdq.report.tables.schema import Column, Schema, count, number, share, text

CELL = ("dataset", "seed", "recipe")
DESCRIBED = ("network", "quantizer", "bits", "activation_bits")
COSTS = ("macs", "bit_operations", "file_bytes", "test_top1", "validation_top1")
BFLOAT16, TORCH = "@bfloat16", "torch"
SAME_TIME = 0.05  # a share of a time; quicker by less is chance
MACHINE = ["processor", "threads", "runtime", "version"]
BATCHES = {"1": "", "128": "_batch128"}  # ends of the columns of speed-ups
REFERENCES = {
    "float": "the float network that the model descends from; empty for a float model",
    "root": "its root; empty for a root",
    "bfloat16": "the float network in bfloat16 (of a float model: itself) in the same runtime, if that computes in it",
}


def _speedups() -> dict[str, Column]:
    columns = {}
    for batch, end in BATCHES.items():
        for name, meaning in REFERENCES.items():
            column = f"speedup_{name}{end}"
            words = f"time at batch {batch} of {meaning}, over that of the model"
            columns[column] = number(f"{words}: median over the rounds", optional=True)
            columns[f"{column}_least"] = number(f"lowest `{column}` of a round", optional=True)
            columns[f"{column}_most"] = number(f"highest `{column}` of a round", optional=True)
    return columns


def _milliseconds(meaning: str) -> Column:
    return number(meaning, unit="milliseconds", optional=True)


SCHEMA = Schema(
    "deployment",
    "one row per cell of the first seed and runtime, if the study has `latency: true`",
    {
        **{name: CELLS.columns[name] for name in (*CELL, *DESCRIBED)},
        "runtime": text("what ran the file; empty if the machine was too busy to measure", optional=True),
        "version": text("its version", optional=True),
        "processor": text("name of the processor"),
        "threads": count("threads of the runtime"),
        "busy": text("why there are no times: empty if there are", optional=True),
        "latency_ms": _milliseconds("time of one image in a batch of its own, median over the rounds"),
        "latency_ms_least": _milliseconds("that of the quickest round"),
        "images_per_second": number("images per second at batch 128, median over the rounds", optional=True),
        "images_per_second_most": number("those of the quickest round", optional=True),
        "float_ms": _milliseconds("`latency_ms` of the float network in the same rounds (of a float model its own)"),
        "bfloat16_ms": _milliseconds(
            "that of the float network in bfloat16 in the same runtime; empty if that does not compute in it"
        ),
        **_speedups(),
        "all_threads": count("cores, each with a thread, of the next three columns; empty for one core", optional=True),
        "latency_ms_all_threads": _milliseconds("`latency_ms` with a thread per core"),
        "images_per_second_all_threads": number("`images_per_second` likewise", optional=True),
        "speedup_float_batch128_all_threads": number("`speedup_float_batch128` likewise", optional=True),
        "onnx_bytes": count("size of the ONNX file", unit="bytes"),
        "onnx_test_top1": share("accuracy of the ONNX file on the test part, in ONNX Runtime"),
        "onnx_agreement": share("test images of the class that the model file's network predicts"),
        **{name: CELLS.columns[name] for name in COSTS},
    },
)


def rows(latencies: list[Latency], table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of deployment, sorted; ``table`` is that of all cells.

    Raise UserError for a cell that the table lacks.
    """
    cells = {tuple(row[name] for name in CELL): row for row in table.to_dict("records")}
    made = []
    for latency in latencies:
        identity = latency.dataset, latency.seed, latency.recipe
        if identity not in cells:
            raise UserError(f"table.csv: no row of {latency.dataset}, seed {latency.seed}, {latency.recipe}")
        described = {name: cells[identity][name] for name in (*CELL, *DESCRIBED, *COSTS)} | _facts(latency)
        times = [_times(latency, name) for name, of in latency.runtimes.items() if "model" in of.milliseconds]
        made += [described | row for row in times or [{}]]
    return SCHEMA.frame(made).sort_values([*CELL, "runtime"], kind="stable", ignore_index=True)


def _facts(latency: Latency) -> dict:
    onnx = latency.onnx
    return {
        "processor": latency.processor.name,
        "threads": latency.threads,
        "busy": latency.busy or None,
        "onnx_bytes": onnx.bytes,
        "onnx_test_top1": onnx.test.top1,
        "onnx_agreement": onnx.test.agreement,
    }


def _times(latency: Latency, name: str) -> dict:
    """Return the columns of times of a cell in the runtime ``name``."""
    runtime = latency.runtimes[name]
    own, rate = runtime.milliseconds["model"], runtime.images_per_second.get("model")
    float_network = "float" if "float" in runtime.milliseconds else "model"
    row = {
        "runtime": name,
        "version": runtime.version,
        "latency_ms": own.median,
        "latency_ms_least": own.least,
        "images_per_second": rate and rate.median,
        "images_per_second_most": rate and rate.most,
        "float_ms": runtime.milliseconds[float_network].median,
    }
    for reference in ("float", "root"):
        row |= _paired(runtime, reference, reference)
    return row | _bfloat16(runtime, float_network + BFLOAT16) | _with_all_threads(runtime)


def _with_all_threads(runtime: Runtime) -> dict:
    if not (times := runtime.all_threads):
        return {}
    ratio = times.speedups.get("float", {}).get("128")
    return {
        "all_threads": times.threads,
        "latency_ms_all_threads": times.milliseconds["model"].median,
        "images_per_second_all_threads": times.images_per_second["model"].median,
        "speedup_float_batch128_all_threads": ratio and ratio.median,
    }


def _paired(runtime: Runtime, ran: str, reference: str) -> dict:
    """Return the speed-ups over what ``ran`` in the same rounds, in the columns of ``reference``."""
    columns = {}
    for batch, ratio in runtime.speedups.get(ran, {}).items():
        if batch in BATCHES:
            column = f"speedup_{reference}{BATCHES[batch]}"
            columns |= {column: ratio.median, f"{column}_least": ratio.least, f"{column}_most": ratio.most}
    return columns


def _bfloat16(runtime: Runtime, ran: str) -> dict:
    """Return the columns of bfloat16, of the same runtime alone: two runtimes differ by more than the precision."""
    if ran not in runtime.milliseconds:
        return {}
    return {"bfloat16_ms": runtime.milliseconds[ran].median, **_paired(runtime, ran, "bfloat16")}


def machines(table: pd.DataFrame) -> list[str]:
    """Return a line per processor if the table has several, and one on the cells without times."""
    cells = table.drop_duplicates(list(CELL))
    counts = cells.groupby(["processor", "threads"]).size()
    words = "times of {} cells are from {}, threads: {}, and not comparable with others"
    lines = [words.format(f"{count:,}", *machine) for machine, count in counts.items()] if len(counts) > 1 else []
    busy = int(cells.busy.notna().sum())
    return [*lines, f"{busy:,} cells without times: too busy"] if busy else lines
