"""Measure the seconds per cell of a grid of short cells, with and without the launcher of jobs.

    python -m benchmarks.cells [--cells 1000] [--cores 2] [--without-launcher] [--slurm]

The grid: one ResNet-18, trained for an epoch on the digits and quantized by rounding with many percentiles and bits.
The model is trained beforehand; `snakemake --cores 2` is timed: it quantizes and evaluates every cell and draws tables
and figures, in a temporary folder that is removed afterwards. With ``--slurm``, Snakemake runs in an allocation of the
one-node SLURM cluster of ``tests/slurm``, and the wait for the allocation is included.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.slurm.cluster import cluster

HOME = Path(__file__).resolve().parent.parent
PARENT = "hard,epochs=1"
GRID = ("--configfile", "studies/digits.yaml", "grid.yaml")
CODE = ("Snakefile", "config.yaml", "studies", "envs", "kdq", "docs", "profiles", "rules", "scripts")


def grid(cells: int) -> str:
    """Return a config of ``cells`` quantized cells."""
    recipes = [f"{PARENT}/rtn,bits={2 + index % 7},percentile={0.5 + index // 7 / 2000:.6g}" for index in range(cells)]
    return "\n".join(["datasets: [digits]", "seeds: [0]", "recipes:", *(f"  - {recipe}" for recipe in recipes)])


def snakemake(folder: Path, *arguments, within=(), **environment) -> tuple[float, float]:
    """Return the seconds that a command took, and the CPU seconds of Snakemake itself, without its jobs.

    If it runs ``within`` another command, the CPU seconds are of that one.
    """
    started, cpu_seconds = time.perf_counter(), 0.0
    words = [*within, sys.executable, "-m", "snakemake", *arguments, "--quiet", "all"]
    with open(folder / "output.log", "a", encoding="utf-8") as output:
        process = psutil.Popen(words, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=output)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):  # it may just have ended
            cpu_seconds = sum(process.cpu_times()[:2])
        time.sleep(0.05)
    if process.returncode:
        sys.exit(
            f"snakemake ended with {process.returncode}: {(folder / 'output.log').read_text(encoding='utf-8')[-2000:]}"
        )
    return time.perf_counter() - started, cpu_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--cores", default="2")
    parser.add_argument("--without-launcher", action="store_true")
    parser.add_argument("--slurm", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kdq-cells-"))
    try:
        for name in CODE:
            (shutil.copytree if (HOME / name).is_dir() else shutil.copy)(HOME / name, folder / name)
        (folder / "grid.yaml").write_text(grid(options.cells), encoding="utf-8")
        place = f"results/digits/seed=0/{PARENT}"
        snakemake(folder, f"{place}/predictions.safetensors", "--cores", options.cores)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.cores} used")
        planning, _ = snakemake(folder, "--dry-run", *GRID)
        environment = {"KDQ_LAUNCHER": "off"} if options.without_launcher else {}
        with cluster() if options.slurm else contextlib.nullcontext() as slurm:
            allocation = ("srun", "--ntasks=1", f"--cpus-per-task={options.cores}", "--mem=8G") if slurm else ()
            environment |= slurm.environment if slurm else {}
            command = ("--cores", options.cores, *GRID)
            seconds, cpu_seconds = snakemake(folder, *command, within=allocation, **environment)
        per_cell = seconds / options.cells
        print(f"{options.cells} cells: {seconds:.1f} s, {per_cell:.3f} s per cell; planned in {planning:.1f} s")
        if not slurm:
            print(f"Snakemake itself: {cpu_seconds:.1f} CPU seconds, {cpu_seconds / seconds:.0%} of one core")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
