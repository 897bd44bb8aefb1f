"""How fast a model's ONNX file runs beside the float files of its parent and its root, in every installed runtime.

All files run in turn in one process per runtime (:mod:`kdq.deploy.timing`). A speed-up is the median over rounds of the
ratio of two times of one round, so that a machine that slows down slows down both.
"""

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from kdq.deploy.timing import BATCHES, RUNTIMES
from kdq.errors import UserError

BUSY = 1.15  # wall time over processor time of a thread, above which something else ran beside it
BFLOAT16 = "@bfloat16"
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "i8mm", "bf16")


def installed() -> dict[str, str]:
    """Return the versions of the runtimes that are installed."""
    return {name: importlib.metadata.version(name) for name in RUNTIMES if importlib.util.find_spec(name)}


def processor() -> dict:
    """Return the processor's name and those of its instruction sets that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = dict(reversed([tuple(map(str.strip, line.split(":", 1))) for line in lines if ":" in line]))
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {"name": facts.get("model name", "unknown"), "flags": [flag for flag in FLAGS if flag in flags]}


def measure(files: Mapping[str, str], size: tuple[int, int, int], threads: int = 1) -> dict:
    """Return the times of ONNX ``files``, of which ``model`` is compared with the others, in plain values.

    ``size`` are the images' channels, height and width. ``load`` is the machine's before the first run. For each
    runtime, see :func:`compared`; ``busy`` is why there are no numbers, "" if there are.
    """
    facts = {"processor": processor(), "threads": threads, "load": round(os.getloadavg()[0], 2), "busy": ""}
    runtimes = {}
    for runtime, version in installed().items():
        times = run(runtime, files, size, threads)
        if busy := _busy(times, threads):
            return facts | {"busy": f"{runtime}: {busy}", "runtimes": {}}
        runtimes[runtime] = {"version": version, **compared(times)}
    return facts | {"runtimes": runtimes}


def run(runtime: str, files: Mapping[str, str], size: tuple[int, int, int], threads: int) -> dict:
    """Return the times of the files in a process of their own; raise UserError if the runtime can't read one."""
    command = [sys.executable, "-m", "kdq.deploy.timing", runtime, "--threads", str(threads)]
    command += ["--size", ",".join(map(str, size)), *(f"{name}={file}" for name, file in files.items())]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{files['model']}: {runtime} can't run it or the files beside it ({reason[:300]})")
    return json.loads(result.stdout)


def _busy(times: dict, threads: int) -> str:
    """Return why the times say nothing, "" if the machine was quiet: with one thread wall time is processor time."""
    for name, batches in times.items():
        for series in batches.values():
            ratio = statistics.median(series["wall"]) / statistics.median(series["processor"]) * threads
            if threads == 1 and ratio > BUSY:
                return f"too busy: {name} took {ratio:.2f} times its processor time, expected at most {BUSY}"
    return ""


def compared(times: dict) -> dict:
    """Return milliseconds, images per second and speed-ups from the times of all rounds.

    ``times`` is :func:`kdq.deploy.timing.timed`'s. ``milliseconds`` per batch of 1 and ``images_per_second`` at the
    large batch, of each file: median, and the best round's. ``speedups`` of ``model`` over each other file, and over
    its own and their bfloat16 version, at each batch: the median of the rounds' ratios, the lowest and the highest.
    """
    small, large = (str(batch) for batch in BATCHES)
    facts = {"milliseconds": {}, "images_per_second": {}, "processor_milliseconds": {}, "speedups": {}}
    for name, batches in times.items():
        single, many = batches[small]["wall"], batches[large]["wall"]
        facts["milliseconds"][name] = {
            "median": _round(1e3 * statistics.median(single)),
            "least": _round(1e3 * min(single)),
        }
        rates = {"median": BATCHES[1] / statistics.median(many), "most": BATCHES[1] / min(many)}
        facts["images_per_second"][name] = {key: _round(value) for key, value in rates.items()}
        facts["processor_milliseconds"][name] = _round(1e3 * statistics.median(batches[small]["processor"]))
        if name != "model":
            facts["speedups"][name] = {
                batch: _ratios(series["wall"], times["model"][batch]["wall"]) for batch, series in batches.items()
            }
    return facts


def summary(measured: dict) -> str:
    """Return the times of the model as one line for the log."""
    parts = []
    for runtime, times in measured["runtimes"].items():
        milliseconds, rate = times["milliseconds"]["model"]["median"], times["images_per_second"]["model"]["median"]
        parts.append(f"{runtime} {milliseconds:g} ms at batch {BATCHES[0]}, {rate:g} images/s at {BATCHES[1]}")
    return "; ".join(parts)


def _ratios(others: list[float], ours: list[float]) -> dict:
    ratios = [other / our for other, our in zip(others, ours, strict=True)]
    return {"median": _round(statistics.median(ratios)), "least": _round(min(ratios)), "most": _round(max(ratios))}


def _round(value: float) -> float:
    """Return four significant digits."""
    return float(f"{value:.4g}")
