"""All bit-widths of a model in one pass, against one: seconds, processor seconds and peak memory.

    python -m benchmarks.gpfq_bits [--images 128] [--width 1.0] [--bits 2 3 4 5 6 7 8] [--repeat 1]

A job of the workflow also starts Python, imports what it needs and reads its data: with ``start`` the first of these is
counted, as one job for all bit-widths and as one for each. Codes that differ from those found alone are counted too.
"""

import argparse
import copy
import os
import resource
import subprocess
import sys

import torch

from benchmarks.gpfq_network import measured, network, pictures, silent
from kdq.quantize.execution.network import Plan, quantize, quantize_each
from kdq.quantize.methods import gpfq

SETTINGS = {
    "patches paper, C = 1.16 a layer": {"patches": "paper", "scale": 1.16, "granularity": "layer"},
    "patches all, C = 1.16 a layer": {"patches": "all", "scale": 1.16, "granularity": "layer"},
    "patches paper, search a channel": {"patches": "paper"},
    "patches all, search a channel": {},
}


def start_seconds():
    """Processor seconds of a job before it quantizes: Python and its imports."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    imports = "import kdq.workflow.job, kdq.models.file, kdq.provenance.describe, kdq.quantize.methods.gpfq, kdq.quantize.stage"
    subprocess.run([sys.executable, "-c", imports], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4, 5, 6, 7, 8])
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    model, images, start = network(width=options.width), pictures(options.images), start_seconds()
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; {options.images} images")
    print(f"start of a job: {start:.1f} CPU s; ratios of all {len(options.bits)} bit-widths to one, the mean of all")
    columns = ("one s", "all s", "ratio", "one CPU", "all CPU", "ratio", "with start", "peak GiB", "differing")
    print(f"{'':34}" + "".join(f"{column:>11}" for column in columns))
    for name, keys in SETTINGS.items():
        plans = [Plan(gpfq.quantizer, gpfq.Parameters(bits=bits, **keys), silent) for bits in options.bits]
        found = {}

        def alone(plan, found=found):
            bits = plan.parameters.bits
            found[bits] = quantize(copy.deepcopy(model), images, plan.quantizer, plan.parameters, log=silent)

        def together(plans=plans, found=found):
            found["all"] = quantize_each(model, images, plans)

        runs = [measured(lambda plan=plan: alone(plan), options.repeat) for plan in plans]
        seconds, processor = (sum(run[part] for run in runs) / len(runs) for part in (0, 1))
        all_seconds, all_processor, peak = measured(together, options.repeat)
        differing = sum(
            int((layer.codes != found[done.plan.parameters.bits][name].codes).sum())
            for done in found["all"]
            for name, layer in done.layers.items()
        )
        print(
            f"{name:34}{seconds:11.1f}{all_seconds:11.1f}{all_seconds / seconds:11.2f}{processor:11.1f}"
            f"{all_processor:11.1f}{all_processor / processor:11.2f}"
            f"{(start + all_processor) / (start + processor):11.2f}{peak:11.2f}{differing:11}",
            flush=True,
        )


if __name__ == "__main__":
    main()
