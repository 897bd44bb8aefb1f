"""How the time grows with images and width, beside its floor: a table (CSV) and a figure (PNG, SVG).

    python -m benchmarks.gpfq_growth [--images 32 64 128 256] [--widths 0.25 0.5 1]
        [--table benchmarks/results/gpfq_growth.csv] [--figure benchmarks/results/gpfq_growth]

ResNet-18 at CIFAR size, all patches, in two settings: one scale for all layers, and the search of the default. The
floor is what the Gram matrices alone would take: twice their multiplications over the rate at which this machine
multiplies large float64 matrices. One of the two is varied at a time, the other stays at 128 images (or the largest
number below) or width 1 (or the largest). GPFQ may stay below the floor, where residuals replace Gram
matrices.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.gpfq_network import measured, network, pictures, silent
from kdq.quantize.execution.network import quantize
from kdq.quantize.gram.calibration import Calibration, groups
from kdq.quantize.methods.gpfq import GPFQ, Parameters
from kdq.report.figures import style

SETTINGS = {"fixed scale": {"scale": 1.16, "granularity": "layer"}, "search": {}}
AXES = {"images": "images", "width": "width of the network"}


def matrix_rate(size=2048):
    """Multiplications and additions a second of a product of float64 matrices."""
    left, right = (torch.randn(size, size, dtype=torch.float64) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def gram_operations(model, images):
    """Multiplications and additions of the Gram matrices of all layers, all patches of so many images."""
    shapes = {}
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(lambda module, given: shapes.update({module: given[0].shape}))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    total = 0.0
    for module, shape in shapes.items():
        inputs = torch.empty(images * shape[0], *shape[1:], device="meta")  # the shape is enough
        total += 2 * groups(module) * Calibration(module, inputs, inputs).gram_multiplications
    return total


def measure(setting, images, width, rate):
    """A row of the table."""
    model, batch = network(width=width), pictures(images)
    quantizer = GPFQ(Parameters(**SETTINGS[setting]))
    seconds, processor, peak = measured(lambda: quantize(model, batch, quantizer, log=silent), 1)
    return {
        "setting": setting,
        "images": images,
        "width": width,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(processor, 3),
        "peak_gib": round(peak, 3),
        "floor_seconds": round(gram_operations(network(width=width), images) / rate, 3),
        "threads": torch.get_num_threads(),
        "gflops": round(rate / 1e9, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def draw(rows, base, clock):
    """A panel for each of the two that grow; ``base`` are the values of the other."""
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 2.9)
        panels = figure.subplots(1, len(AXES), sharey=True)
        for panel, (axis, label) in zip(panels, AXES.items(), strict=True):
            for index, setting in enumerate(SETTINGS):
                others = {key: value for key, value in base.items() if key != axis} | {"setting": setting}
                points = [row for row in rows if all(row[key] == value for key, value in others.items())]
                points = sorted({row[axis]: row for row in points}.items())
                look = {"color": style.COLOURS[index], "marker": style.MARKERS[index]}
                panel.plot(*zip(*((x, row[clock]) for x, row in points), strict=True), label=setting, **look)
            floor = [(x, row["floor_seconds"]) for x, row in points]
            panel.plot(*zip(*floor, strict=True), color=style.GREY, linestyle="--", label="floor: Gram products")
            panel.set(xlabel=label, xscale="log", yscale="log")
            panel.set_xticks([x for x, _ in points], [f"{x:g}" for x, _ in points], minor=False)
            panel.minorticks_off()
        panels[0].set_ylabel("seconds" if clock == "seconds" else "processor seconds")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(
            f"GPFQ of ResNet-18, all patches: {rows[0]['threads']} threads, {rows[0]['gflops']:.0f} GFLOP/s"
        )
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--widths", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--clock", default="seconds", choices=["seconds", "cpu_seconds"], help="what the figure shows")
    parser.add_argument("--table", type=Path, default=Path("benchmarks/results/gpfq_growth.csv"))
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/results/gpfq_growth"))
    options = parser.parse_args()
    usual = [count for count in options.images if count <= 128] or options.images
    base = {"images": max(usual), "width": max(options.widths)}
    grown = {"images": options.images, "width": options.widths}
    points = {tuple({**base, axis: value}.items()): None for axis, values in grown.items() for value in values}
    rate, rows = matrix_rate(), []
    options.table.parent.mkdir(parents=True, exist_ok=True)
    with open(options.table, "w", newline="", encoding="utf-8") as file:
        for setting in SETTINGS:
            for point in points:
                rows.append(measure(setting, rate=rate, **dict(point)))
                writer = csv.DictWriter(file, rows[-1])
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(rows[-1])
                file.flush()
                print(rows[-1], flush=True)
    style.save(draw(rows, base, options.clock), *(options.figure.with_suffix(end) for end in (".png", ".svg")))


if __name__ == "__main__":
    main()
