"""Time ONNX files in one runtime, in turn: the program of one process per runtime.

    python -m kdq.deploy.timing RUNTIME --threads N --size C,H,W NAME=FILE ...

prints one JSON object. Every round runs every file at every batch size, so that what disturbs the machine disturbs all
alike; its times are compared within the round. Wall time beyond processor time shows that something else ran.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

BATCHES = (1, 128)
ROUNDS = 7
LEAST_SECONDS = 0.05  # of a measured interval; a batch is run as often as that takes

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
        precisions["@bfloat16"] = "bf16"
    runs = {}
    for suffix, precision in precisions.items():
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = core.compile_model(file, "CPU", options)
        runs[suffix] = lambda images, compiled=compiled: compiled(images)[0]
    return runs


RUNTIMES = {"onnxruntime": onnxruntime_of, "openvino": openvino_of}


def timed(runs: dict[str, Run], size: tuple[int, int, int], rounds: int = ROUNDS) -> dict:
    """Return ``{name: {batch: {"wall": [seconds per batch and round], "processor": [...]}}}``."""
    images = {batch: np.random.default_rng(0).random((batch, *size), np.float32) for batch in BATCHES}
    repeats = {(name, batch): _repeats(runs[name], images[batch]) for name in runs for batch in BATCHES}
    times = {name: {batch: {"wall": [], "processor": []} for batch in BATCHES} for name in runs}
    for _ in range(rounds):
        for batch in BATCHES:
            for name, run in runs.items():
                count = repeats[name, batch]
                wall, processor = time.perf_counter(), time.process_time()
                for _ in range(count):
                    run(images[batch])
                times[name][batch]["wall"].append((time.perf_counter() - wall) / count)
                times[name][batch]["processor"].append((time.process_time() - processor) / count)
    return times


def _repeats(run: Run, images: np.ndarray) -> int:
    """Return how often a batch fits into the least interval; the first run, which allocates, does not count."""
    run(images)
    start = time.perf_counter()
    run(images)
    return max(1, round(LEAST_SECONDS / (time.perf_counter() - start)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--size", required=True, help="channels, height, width")
    parser.add_argument("files", nargs="+", help="name=file")
    arguments = parser.parse_args()
    load, runs = RUNTIMES[arguments.runtime], {}
    for entry in arguments.files:
        name, _, file = entry.partition("=")
        runs |= {name + suffix: run for suffix, run in load(file, arguments.threads).items()}
    print(json.dumps(timed(runs, tuple(map(int, arguments.size.split(","))))))


if __name__ == "__main__":
    main()
