"""Peak memory of a whole ResNet-50 at CIFAR size, by the limit on activations: seconds, peak, and differing codes.

    python -m benchmarks.gpfq_memory [--images 1024] [--width 1.0] [--limits 100 4 1] [--patches paper] [--scale 1.16]

Every limit, in GiB, in a process of its own. The peak is the process's largest resident memory; the limit bounds what
waits between the layers, to which Gram matrices, the network at work and the libraries add. Above the
limit every layer takes partial passes, and its inputs are mapped files in the folder for temporary files (TMPDIR).
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gpfq_network import PeakMemory, measured, network, pictures, silent
from kdq.quantize.execution.network import quantize
from kdq.quantize.methods.gpfq import GPFQ, Parameters

HOME = Path(__file__).resolve().parent.parent


def run(options, limit):
    """One line: seconds, processor seconds, peak and a digest of the codes."""
    model, images, found = network("resnet50", options.width), pictures(options.images), {}
    keys = {"patches": options.patches, "granularity": "layer", "memory": limit}
    parameters = Parameters(scale="search" if options.scale == "search" else float(options.scale), **keys)
    with PeakMemory() as before:
        pass
    seconds, processor, peak = measured(lambda: found.update(quantize(model, images, GPFQ(parameters), log=silent)), 1)
    digest = hashlib.sha256()
    for layer in found.values():
        digest.update(layer.codes.numpy().tobytes())
    print(
        f"{limit:10g} {seconds:9.1f} {processor:9.1f} {before.peak:13.2f} {peak:9.2f}  {digest.hexdigest()[:12]}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--limits", type=float, nargs="+", default=[100, 4, 1])
    parser.add_argument("--patches", default="paper", choices=["paper", "all"])
    parser.add_argument("--scale", default="1.16", help="a number, or search")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run(options, options.limits[0])
        return
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; ResNet-50, {options.images} images")
    print(f"{'limit GiB':>10} {'seconds':>9} {'CPU s':>9} {'GiB at start':>13} {'peak GiB':>9}  codes", flush=True)
    for limit in options.limits:
        same = ["--images", options.images, "--width", options.width, "--patches", options.patches]
        arguments = [*same, "--scale", options.scale, "--limits", limit, "--one"]
        command = [sys.executable, "-m", "benchmarks.gpfq_memory", *map(str, arguments)]
        subprocess.run(command, cwd=HOME, check=True)


if __name__ == "__main__":
    main()
