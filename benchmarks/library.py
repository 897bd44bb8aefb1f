"""Time quantized networks of torchvision against their float files.

    python -m benchmarks.library [--networks resnet18 mobilenet_v3_small ...] [--side 224] [--folder DIR]

Random weights, which are right for bytes and speed; 4-bit weights, 8-bit activations. Both files of a network are run
in turn, one thread, in ONNX Runtime and, if it is installed, OpenVINO; a speed-up is the median over quiet rounds of
the ratio to the float file. Written: ``library.csv`` in the folder, and its table on the terminal.
"""

import argparse
import statistics
from pathlib import Path

import torch
import torchvision
from torch import nn

import kdq
from benchmarks.deploy import random_gains, write
from kdq.deploy import machine
from kdq.deploy.timing import BUSY, RUNTIMES, timed

NETWORKS = ("resnet18", "resnet50", "mobilenet_v3_small", "densenet121", "vit_b_16", "swin_t")
BATCHES = (1, 16)
KEYS = {
    "method": "rtn",
    "bits": 4,
    "activations": 8,
    "scale": 0.8,
    "activation_range": "minmax",
}  # cheap: random weights
COLUMNS = ("network", "runtime", "bytes", "float_bytes", "ms_1", "float_ms_1", "speedup_1", "speedup_16")


def network_of(name: str) -> nn.Module:
    """Return a network of torchvision with random weights and gains."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name)
    return random_gains(network).eval()


def files_of(name: str, side: int, folder: Path) -> dict[str, Path]:
    """Write the float and the quantized ONNX file of a network."""
    network, images = network_of(name), torch.rand(16, 3, side, side)
    files = {kind: folder / f"{name}-{side}-{kind}.onnx" for kind in ("float", "quantized")}
    torch.onnx.export(
        network,
        (images[:2],),
        files["float"],
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    kdq.export(kdq.quantize(network, images, **KEYS), files["quantized"])
    return files


def rows_of(name: str, side: int, folder: Path) -> list[dict]:
    """Return a row per runtime."""
    files = files_of(name, side, folder)
    draw = torch.rand(max(BATCHES), 3, side, side).numpy()
    rows = []
    for runtime in sorted(machine.runtimes().keys() - {"torch"}):
        runs = {kind: RUNTIMES[runtime](str(path), 1)[""] for kind, path in files.items()}
        measured = timed(runs, {batch: draw[:batch] for batch in BATCHES})
        if measured["busy"]:
            raise SystemExit(f"{name}: took {measured['busy']} times its processor time, expected at most {BUSY}")
        times = {kind: {b: measured["times"][kind][str(b)]["wall"] for b in BATCHES} for kind in files}
        ratio = {
            batch: statistics.median(
                a / b for a, b in zip(times["float"][batch], times["quantized"][batch], strict=True)
            )
            for batch in BATCHES
        }
        single = {kind: 1e3 * statistics.median(times[kind][1]) for kind in files}
        size = {kind: path.stat().st_size for kind, path in files.items()}
        values = (size["quantized"], size["float"], *(f"{single[kind]:.2f}" for kind in ("quantized", "float")))
        speedups = (f"{ratio[batch]:.2f}" for batch in BATCHES)
        rows.append(dict(zip(COLUMNS, (name, runtime, *values, *speedups), strict=True)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/library"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = [row for name in arguments.networks for row in rows_of(name, arguments.side, arguments.folder)]
    write(rows, COLUMNS, "library", arguments.folder)


if __name__ == "__main__":
    main()
