"""Measure seconds and memory to verify, adopt and plan a finished grid of many cells.

    python -m benchmarks.finished [--cells 10000] [--width 0.125]

The results are made up without training: a ResNet-18 of the given width, with the headers, metrics and digests of a
real study of digits. The grid has students over temperatures, each at seven bit-widths by two quantizers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from benchmarks.planning import grid
from kdq.provenance.verify import study
from tests.verify.made_up import Results

PYTHON = (sys.executable, "-m")
# via a small process: the peak memory of a child includes that of its parent at the fork
MEASURED = (
    *(sys.executable, "-S", "-c"),
    "import subprocess, sys; code = subprocess.call(sys.argv[1:], stderr=subprocess.STDOUT); "
    "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)",
)


def make_up(folder: Path, cells: int, width: float) -> Path:
    """Write the results and the study's config below ``folder``. Return the path of the config."""
    config = folder / "study.yaml"
    config.write_text(grid(cells), encoding="utf-8")
    products = study.products([config])
    results = Results(products, folder, width)
    with patch("os.fsync"):  # nothing is lost if it can be made again
        os.chdir(folder)
        results.data("digits")
        for cell in sorted(products.study.cells(), key=lambda cell: len(cell[2].stages)):
            results.cell(*cell)
        results.table()
    return config


def timed(folder: Path, *command) -> tuple[float, float]:
    """Run a command and print its last line. Return its seconds and peak memory in MiB."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(study.HOME)}
    done = subprocess.run([*MEASURED, *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    seconds, (*lines, memory) = time.perf_counter() - started, (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        sys.exit("\n".join(lines[-20:]))
    print(f"    {lines[-1] if lines else 'no output'}")
    return seconds, int(memory) / 1024


def plan(config: Path) -> tuple[str, ...]:
    """Return the command that plans a study."""
    command = ("snakemake", "--snakefile", f"{study.HOME}/Snakefile", "--dry-run", "--quiet", "all")
    return *PYTHON, *command, "--configfile", str(config)


def finished(cells: int, width: float = 0.125) -> dict[str, tuple[float, float]]:
    """Return (seconds, MiB) of verifying, adopting and planning a finished grid of ``cells`` cells."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            config = make_up(folder, cells, width)
        finally:
            os.chdir(before)
        measured = {
            "verify": timed(
                folder, *PYTHON, "kdq.provenance.verify", "results", "--quiet", "--configfile", str(config)
            ),
            "adopt": timed(folder, *PYTHON, "kdq.workflow.adopt", "--configfile", str(config)),
            "finished": timed(folder, *plan(config)),
        }
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--width", type=float, default=0.125)
    options = parser.parse_args()
    for task, (seconds, memory) in finished(options.cells, options.width).items():
        print(f"{task:9} {seconds:7.1f} s {memory:7.0f} MiB, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
