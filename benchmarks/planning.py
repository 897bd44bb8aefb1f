"""Measure seconds and memory of `snakemake -n` for grids of many cells, and of a short job.

    python -m benchmarks.planning [--cells 1000 10000]

The grids are made of recipes of the default study's data set; nothing is run. If `results/` holds the finished default
study, its plan with nothing to do and a single `evaluate` job are timed too.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
KEPT = HOME / "results/digits/seed=0/hard/rtn,bits=4/metrics.json"


def grid(cells: int, latency: bool) -> str:
    """Return a config of about ``cells`` cells: students by temperature, each at seven bit-widths by two quantizers."""
    students = max(1, round((cells - 1) / 15))
    return "\n".join(
        [
            "datasets: [digits]",
            "seeds: [0]",
            f"latency: {str(latency).lower()}",
            "recipes:",
            "  - teacher",
            f"  - teacher/kd,temperature={{1..{students}}}",
            f'  - "teacher/kd,temperature={{1..{students}}}/{{rtn,gpfq}},bits={{2..8}}"',
        ]
    )


def timed(*arguments) -> tuple[float, float]:
    """Return the seconds of a snakemake command, and the largest memory of any command so far in MiB."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments], cwd=HOME, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--latency", action="store_true", help="with ONNX file and latency of every cell")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for cells in sorted(arguments.cells):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as config:
            config.write(grid(cells, arguments.latency))
            config.flush()
            seconds, memory = timed("--dry-run", "--quiet", "--configfile", "studies/digits.yaml", config.name)
        print(f"snakemake -n, {cells:6} cells   {seconds:6.1f} s   {memory:6.0f} MiB")
    if KEPT.is_file():
        print(f"snakemake -n, finished study {timed('--dry-run', '--quiet')[0]:6.1f} s")
        seconds, _ = timed("--cores", "1", "--force", str(KEPT.relative_to(HOME)), "--quiet", "all")
        print(f"one evaluate job, planning included {seconds:6.1f} s")


if __name__ == "__main__":
    main()
