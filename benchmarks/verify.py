"""Seconds to verify the results of many cells.

    python -m benchmarks.verify [--cells 10000] [--width 0.125]

The results are made here without training: ResNet-18 of that width under the headers, metrics and digests that a
study of digits would have, a students' grid over temperatures, each at seven bit-widths by two quantizers.
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
from kdq.verify import study
from tests.verify.made_up import Results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--width", type=float, default=0.125)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "study.yaml")
        config.write_text(grid(given.cells))
        workflow = study.workflow([config])
        results = Results(workflow, Path(folder), given.width)
        with patch("os.fsync"):  # nothing is lost where it is made again
            os.chdir(folder)
            results.data("digits")
            for cell in sorted(workflow.study.cells(), key=lambda cell: len(cell[2].stages)):
                results.cell(*cell)
            results.table()
        size_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        started = time.perf_counter()
        command = [sys.executable, "-m", "kdq.verify", "results", "--quiet", "--configfile", str(config)]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(study.HOME)}, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
    print(done.stdout + done.stderr)
    print(f"{seconds:.1f} s for {size_bytes / 2**20:,.0f} MiB, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
