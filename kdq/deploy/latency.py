"""How fast a model's ONNX file runs beside the float files of its float network and its root, in every runtime.

All files run in turn in a process per runtime (:mod:`kdq.deploy.timing`). A speed-up is the median over rounds of the
ratio of two times of one round, so that a machine that slows down slows down both. If the processor is fast in
bfloat16, the float network also runs in PyTorch, in float32 and bfloat16: what is gained without quantization.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping

from kdq.deploy import machine
from kdq.deploy.timing import BATCHES, BUSY, timed_files
from kdq.errors import UserError


def measure(files: Mapping[str, str], images: str, threads: int = 1, network: str = "") -> dict:
    """Return the times of ONNX ``files``, of which ``model`` is compared with the others, in plain values.

    ``images`` describes a file's input, see :func:`kdq.deploy.timing.batches`; ``network`` is the float network's model
    file, for PyTorch: its times are those of ``float``, or of ``model`` without a file ``float``. A file of two names
    is run once. ``load`` is the machine's before the first run. For each runtime, see :func:`compared`; ``all_threads``
    is the same of the files ``model`` and ``float`` with a thread per core. ``busy`` is why there are no numbers, "" if
    there are.
    """
    facts = {"processor": machine.processor(), "threads": threads, "load": round(os.getloadavg()[0], 2), "busy": ""}
    measured = {}
    for runtime, version in machine.runtimes().items():
        if runtime != "torch":
            times, busy = run(runtime, files, images, threads)
        elif network:
            times, busy = run(runtime, {"float" if "float" in files else "model": network}, images, threads)
        else:
            continue
        if busy:
            return facts | {"busy": f"too busy: {runtime} {busy}", "runtimes": {}}
        measured[runtime] = {"version": version, **compared(times)}
        if runtime != "torch" and (cores := len(os.sched_getaffinity(0))) > threads:
            pair = {name: file for name, file in files.items() if name in ("model", "float")}
            of_all = compared(run(runtime, pair, images, cores)[0])
            measured[runtime]["all_threads"] = {"threads": cores, **of_all}
    return facts | {"runtimes": measured}


def run(runtime: str, files: Mapping[str, str], images: str, threads: int) -> tuple[dict, str]:
    """Return the times of the files, and why there are none, "" if there are.

    Raise UserError if the runtime can't read one. PyTorch runs in this process, a job's, which has it already.
    """
    names = {file: name for name, file in reversed(files.items())}  # the first of each
    once = {name: file for file, name in reversed(names.items())}
    if runtime == "torch":
        answer = timed_files(runtime, once, images, threads)
    else:
        answer = _run_apart(runtime, once, images, threads)
    if busy := answer["busy"]:
        return {}, f"took {busy} times its processor time, expected at most {BUSY}"
    times = answer["times"]
    for name, file in files.items():
        of_first = {key: value for key, value in times.items() if key.partition("@")[0] == names[file]}
        times |= {key.replace(names[file], name, 1): value for key, value in of_first.items()}
    return times, ""


def _run_apart(runtime: str, files: Mapping[str, str], images: str, threads: int) -> dict:
    """Return what :func:`kdq.deploy.timing.timed_files` does, in a process of its own."""
    command = [sys.executable, "-m", "kdq.deploy.timing", runtime, "--threads", str(threads), "--images", images]
    command += [f"{name}={file}" for name, file in files.items()]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise UserError(f"{next(iter(files.values()))}: {runtime} can't run it or a file beside it ({reason[:300]})")
    return json.loads(result.stdout)


def compared(times: dict) -> dict:
    """Return milliseconds, images per second and speed-ups from the times of all rounds.

    ``times`` is :func:`kdq.deploy.timing.timed`'s. ``milliseconds`` per batch of 1 and ``images_per_second`` at the
    large batch, of each file: median, and the best round's. ``speedups`` of ``model``, if it is among them, over each
    other file, and over its own and their bfloat16 version, at each batch: the median of the rounds' ratios, the lowest
    and the highest.
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
        if name != "model" and "model" in times:
            facts["speedups"][name] = {
                batch: _ratios(series["wall"], times["model"][batch]["wall"]) for batch, series in batches.items()
            }
    return facts


def summary(measured: dict) -> str:
    """Return the times of the model as one line for the log."""
    parts = []
    for runtime, times in measured["runtimes"].items():
        name = "model" if "model" in times["milliseconds"] else "float"
        milliseconds, rate = times["milliseconds"][name]["median"], times["images_per_second"][name]["median"]
        what = "" if name == "model" else "the float network "
        parts.append(f"{runtime}: {what}{milliseconds:g} ms at batch {BATCHES[0]}, {rate:g} images/s at {BATCHES[1]}")
    return "; ".join(parts)


def _ratios(others: list[float], ours: list[float]) -> dict:
    ratios = [other / our for other, our in zip(others, ours, strict=True)]
    return {"median": _round(statistics.median(ratios)), "least": _round(min(ratios)), "most": _round(max(ratios))}


def _round(value: float) -> float:
    """Return four significant digits."""
    return float(f"{value:.4g}")
