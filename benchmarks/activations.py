"""Measure what quantized activations cost a network, and what it gains if its weights are quantized on them.

    python -m benchmarks.activations MODEL DATA ROWS [--cells 4:4 8:8] [--methods gpfq] [--seeds 0 1 2] [--ranges mse]
    python -m benchmarks.activations --report ROWS...

MODEL is the file of a float model, DATA the prepared data of its study, `results/DATASET/data/split=0.safetensors`. A
cell is BITS:ACTIVATIONS, 0 activations for float ones. Each is what `METHOD,activations=...,bits=...` is in a study,
with `activation_order` first and last, evaluated as integer runtimes compute. ROWS gets a line of JSON per cell, order,
range and seed, with the images that were classified right; cells that it has are left out. The report gives accuracies
and the difference first - last, with intervals over the seeds and over the images of the test part.
"""

import argparse
import base64
import copy
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from kdq.data import prepared as data_file
from kdq.evaluate.significance import bootstrap_images, paired
from kdq.evaluate.stage import predict
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.integer import to_integer
from kdq.quantize.activation_ranges import measured_points
from kdq.quantize.gram.calibration_images import calibration_images
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage

CPU = torch.device("cpu")
PARTS = ["validation", "test"]
NAMES = ("method", "bits", "activations", "order", "range", "seed")


def quantized(network, data, method: str, seed: int, **keys):
    """Return the network and its codes, quantized as a stage of a study does."""
    network = copy.deepcopy(network)
    quantizer = quantizer_of(f"kdq.quantize.methods.{method}", keys, seed)
    return network, quantize_stage(network, data, quantizer, seed=seed, device=CPU, log=lambda line: None)


def evaluated(network, codes: Codes, data, parts: list[str]) -> dict:
    """Return the accuracy on the parts and which images of the last are right, in base64."""
    network = to_integer(copy.deepcopy(network), codes) if codes.points else copy.deepcopy(network)
    row = {}
    for name in parts:
        part = getattr(data, name)
        right = predict(network, part.images, CPU).argmax(1) == part.labels
        row |= {name: right.double().mean().item(), "right": base64.b64encode(np.packbits(right.numpy())).decode()}
    return row


def measure(options) -> None:
    """Append the missing rows of all cells to the file of rows."""
    network = model_file.load(options.model)
    data, done = data_file.read(options.data), set()
    if options.rows.exists():
        lines = options.rows.read_text(encoding="utf-8").splitlines()
        done = {tuple(json.loads(line)[name] for name in NAMES) for line in lines}

    def write(key: tuple, model, codes) -> None:
        if key not in done:
            started = time.process_time()
            row = dict(zip(NAMES, key, strict=True)) | evaluated(model, codes, data, options.parts)
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(*key, *(row[part] for part in options.parts), f"{time.process_time() - started:.0f} s", flush=True)

    for seed in options.seeds:
        images = calibration_images(data, 256, seed).images
        for method in options.methods:
            floats = {}  # codes for float activations: those of activation_order=last, whatever its activations are
            for bits, activations in options.cells:
                for range_ in options.ranges if activations else ("",):
                    keys = {"activations": activations, "activation_range": range_ or "mse", "bits": bits}
                    first, last = ((method, bits, activations, order, range_, seed) for order in ("first", "last"))
                    if last not in done and options.order != "first":
                        if bits not in floats:
                            floats[bits] = quantized(network, data, method, seed, bits=bits)
                        model, codes = floats[bits]
                        if activations:
                            points = measured_points(network, codes, images, activations, range_)
                            codes = Codes(codes, kept=codes.kept, points=points)
                        write(last, model, codes)
                    if activations and first not in done and options.order != "last":
                        write(first, *quantized(network, data, method, seed, **keys))


def report(paths: list[Path]) -> None:
    """Print the rows' accuracies as a table in Markdown, means over seeds, with the differences and their intervals."""
    rows = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    cells = defaultdict(dict)
    for row in rows:
        row["right"] = np.unpackbits(np.frombuffer(base64.b64decode(row["right"]), np.uint8)).astype(bool)
        cells[tuple(row[name] for name in NAMES if name not in ("order", "seed"))][row["order"], row["seed"]] = row
    print("| quantizer | range | seeds | validation, first | last | test, first | last | first - last | over seeds |")
    print("|---" * 9 + "|")
    for (method, bits, activations, range_), found in sorted(cells.items(), key=str):
        seeds = sorted({seed for _, seed in found})
        texts = [mean(found, part, order) for part in PARTS for order in ("first", "last")]
        both = [seed for seed in seeds if {("first", seed), ("last", seed)} <= found.keys()]
        texts += differences(found, both) if both else ["", ""]
        name = f"{method} W{bits}A{activations or 32}"
        print(f"| {name} | {range_} | {' '.join(map(str, seeds))} | {' | '.join(texts)} |")


def mean(found: dict, part: str, order: str) -> str:
    """Return the mean accuracy in per cent over the seeds that have one, or ""."""
    values = [row[part] for key, row in found.items() if key[0] == order and part in row]
    return f"{100 * np.mean(values):.2f}" if values else ""


def differences(found: dict, seeds: list[int]) -> list[str]:
    """Return first - last in points: over images, accuracies of all seeds together, and over seeds, with 95% each."""
    sides = [np.stack([found[order, seed]["right"] for seed in seeds]) for order in ("first", "last")]
    images, over = bootstrap_images(*sides), paired(*(side.mean(1) for side in sides))
    difference = f"{100 * (sides[0].mean() - sides[1].mean()):+.2f} [{100 * images.low:+.2f}, {100 * images.high:+.2f}]"
    return [difference, "" if over.low is None else f"[{100 * over.low:+.2f}, {100 * over.high:+.2f}]"]


def cell(text: str) -> tuple[int, int]:
    bits, activations = text.split(":")
    return int(bits), int(activations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, nargs="+", default=[])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("rows", type=Path, nargs="?")
    parser.add_argument("--cells", type=cell, nargs="+", default=[(4, 4), (8, 8), (4, 8), (3, 8), (2, 8)])
    parser.add_argument("--methods", nargs="+", default=["gpfq", "qronos"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ranges", nargs="+", default=["mse"])
    parser.add_argument("--order", choices=["first", "last", "both"], default="both")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.report:
        report(options.report)
    else:
        measure(options)


if __name__ == "__main__":
    main()
