"""Time the files of networks in one runtime, in turn: the program of a process per runtime.

    python -m kdq.deploy.timing RUNTIME --threads N --images uint8|float32,SHAPE NAME=FILE ...

prints one JSON object. Every round runs every file at every batch size, so that what disturbs the machine disturbs all
alike; its times are compared within the round. Wall time beyond processor time shows that something else ran: such a
round does not count, and another one is run.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

BATCHES = (1, 128)
BFLOAT16 = "@bfloat16"  # behind the name of a file that is run in bfloat16
ROUNDS, MOST_ROUNDS = 5, 15  # quiet rounds that are enough, and rounds after which a machine is too busy
LEAST_SECONDS = 0.05  # of a measured interval; a batch is run as often as that takes
BUSY = 1.15  # wall time over processor time of a thread, above which something else ran beside it

Run = Callable[[np.ndarray], np.ndarray]


def onnxruntime_of(file: str, threads: int) -> dict[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return {"": lambda images: session.run(None, {"images": images})[0]}


def openvino_of(file: str, threads: int) -> dict[str, Run]:
    """Return the file in float32, and in bfloat16 if the processor computes in it: ``@bfloat16`` behind its name."""
    import openvino

    core = openvino.Core()
    precisions = {"": "f32"}
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions[BFLOAT16] = "bf16"
    runs = {}
    for suffix, precision in precisions.items():
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = core.compile_model(file, "CPU", options)
        runs[suffix] = lambda images, compiled=compiled: compiled(images)[0]
    return runs


def torch_of(file: str, threads: int) -> dict[str, Run]:
    """Return the float network of a model file in eager PyTorch, BatchNorm folded, in float32 and in bfloat16."""
    import torch

    from kdq.models.codes import Codes
    from kdq.models.file import load
    from kdq.models.integer import to_integer

    torch.set_num_threads(threads)
    runs = {}
    for suffix, precision in {"": torch.float32, BFLOAT16: torch.bfloat16}.items():
        network = to_integer(load(file), Codes()).to(precision, memory_format=torch.channels_last)

        def run(images, network=network, precision=precision) -> np.ndarray:
            batch = torch.from_numpy(images)
            if batch.dtype == torch.uint8:
                batch = batch.permute(0, 3, 1, 2) / 255
            with torch.inference_mode():
                return network(batch.to(precision, memory_format=torch.channels_last)).float().numpy()

        runs[suffix] = run
    return runs


RUNTIMES = {"onnxruntime": onnxruntime_of, "openvino": openvino_of, "torch": torch_of}


def timed_files(runtime: str, files: Mapping[str, str], images: str, threads: int) -> dict:
    """Return the times of files by name, see :func:`timed`; ``images`` as in :func:`batches`."""
    load, runs = RUNTIMES[runtime], {}
    for name, file in files.items():
        runs |= {name + suffix: run for suffix, run in load(file, threads).items()}
    return timed(runs, batches(images), threads)


def timed(runs: dict[str, Run], images: dict[int, np.ndarray], threads: int = 1, rounds: int = ROUNDS) -> dict:
    """Return the times of so many quiet rounds, ``images`` holding the batch of each size.

    ``{"times": {name: {batch: {"wall": [seconds per batch and round], "processor": [...]}}}, "busy": ""}``, ``batch`` a
    text; if too few of ``MOST_ROUNDS`` rounds were quiet, ``busy`` is the median round's wall time over its processor
    time. With several threads that wait for each other, no round can be told to be quiet: all count.
    """
    repeats = {(name, batch): _repeats(run, images[batch]) for name, run in runs.items() for batch in images}
    quiet, ratios = [], []
    while len(quiet) < rounds and len(ratios) < MOST_ROUNDS:
        times = {key: _seconds(runs[key[0]], images[key[1]], count) for key, count in repeats.items()}
        ratios.append(max(wall / processor for wall, processor in times.values()) if threads == 1 else 1)
        if ratios[-1] <= BUSY:
            quiet.append(times)
    busy = f"{statistics.median(ratios):.2f}" if len(quiet) < rounds else ""
    series = {
        name: {
            str(batch): {
                clock: [times[name, batch][place] for times in quiet]
                for place, clock in enumerate(("wall", "processor"))
            }
            for batch in images
        }
        for name in runs
    }
    return {"times": {} if busy else series, "busy": busy}


def _seconds(run: Run, images: np.ndarray, count: int) -> tuple[float, float]:
    """Return wall and processor time per run of ``count`` runs."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        run(images)
    return (time.perf_counter() - wall) / count, (time.process_time() - processor) / count


def _repeats(run: Run, images: np.ndarray) -> int:
    """Return how often a batch fits into the least interval; the first run, which allocates, does not count."""
    run(images)
    count, seconds = 1, _seconds(run, images, 1)[0]
    while count * seconds < LEAST_SECONDS / 5:  # a single short run tells little
        count *= 4
        seconds = _seconds(run, images, count)[0]
    return math.ceil(LEAST_SECONDS / seconds)


def batches(images: str) -> dict[int, np.ndarray]:
    """Return random images of each batch size, described as ``float32,3,32,32`` or ``uint8,32,32,3``."""
    kind, *shape = images.split(",")
    draw = np.random.default_rng(0).random((max(BATCHES), *map(int, shape)), np.float32)
    whole = (draw * 255).astype(np.uint8) if kind == "uint8" else draw
    return {batch: np.ascontiguousarray(whole[:batch]) for batch in BATCHES}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time ONNX files in one runtime, in turn.")
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--images", required=True, help="their type, then the shape of each")
    parser.add_argument("files", nargs="+", help="name=file")
    arguments = parser.parse_args()
    files = dict(entry.split("=", 1) for entry in arguments.files)
    print(json.dumps(timed_files(arguments.runtime, files, arguments.images, arguments.threads)))


if __name__ == "__main__":
    main()
