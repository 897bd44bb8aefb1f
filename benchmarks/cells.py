"""Seconds a cell of a grid of short cells, with the launcher of the jobs and without.

    python -m benchmarks.cells [--cells 1000] [--cores 2] [--without-launcher]

The grid: one ResNet-18 trained for an epoch on the digits, quantized by rounding with many percentiles and bits. Its
model is made first; what is timed is Snakemake with every cell's two jobs, to quantize and to evaluate. In a folder of
its own below the system's temporary folder, which is removed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
PARENT = "hard,epochs=1"
CODE = ("Snakefile", "config.yaml", "envs", "kdq", "docs", "profiles", "rules", "scripts")


def grid(cells: int) -> str:
    """A config of ``cells`` quantized cells."""
    recipes = [f"{PARENT}/rtn,bits={2 + index % 7},percentile={0.5 + index // 7 / 2000:.6g}" for index in range(cells)]
    return "\n".join(["datasets: [digits]", "seeds: [0]", "recipes:", *(f"  - {recipe}" for recipe in recipes)])


def snakemake(folder: Path, *arguments, **environment) -> float:
    """Seconds that a command took."""
    started = time.perf_counter()
    words = [sys.executable, "-m", "snakemake", *arguments, "--quiet", "all"]
    subprocess.run(words, cwd=folder, env={**os.environ, **environment}, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--cores", default="2")
    parser.add_argument("--without-launcher", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kdq-cells-"))
    try:
        for name in CODE:
            (shutil.copytree if (HOME / name).is_dir() else shutil.copy)(HOME / name, folder / name)
        (folder / "grid.yaml").write_text(grid(options.cells))
        place = f"results/digits/seed=0/{PARENT}"
        snakemake(folder, f"{place}/predictions.safetensors", "--cores", options.cores)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.cores} used")
        planning = snakemake(folder, "--dry-run", "--configfile", "grid.yaml")
        environment = {"KDQ_LAUNCHER": "off"} if options.without_launcher else {}
        targets = [line.strip(" -") for line in (folder / "grid.yaml").read_text().splitlines()[3:]]
        files = [f"results/digits/seed=0/{recipe}/metrics.json" for recipe in targets]
        seconds = snakemake(folder, *files, "--cores", options.cores, "--configfile", "grid.yaml", **environment)
        a_cell = seconds / options.cells
        print(f"{options.cells} cells: {seconds:.1f} s, {a_cell:.3f} s a cell; planned in {planning:.1f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
