"""Read thousands of mutated inputs: each must be accepted or refused in one clear line.

    python -m benchmarks.fuzz [--inputs 600] [--first 0] [--subjects recipe config ...]

Each subject (``tests/fuzz/subjects.py``) is read in a separate fork, so that crashes are reported too, with the number
of the input: ``--subjects NAME --first NUMBER --inputs 1`` repeats one. No input may write elsewhere, start a process,
use the network, compute for 10 s or allocate 512 MiB (``tests/fuzz/guard.py``).
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import torch

from tests.fuzz.subjects import Subject, read_guarded, subjects


def run(name: str, subject: Subject, numbers: range, folder: Path, current) -> None:
    """Read mutations of one subject and print the failures. ``current`` holds the number being read."""
    failures, started = 0, time.perf_counter()
    for number in numbers:
        current.value = number
        try:
            read_guarded(subject, number, name, folder)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failures += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            print(f"  input {number}: {type(error).__name__}: {error!s:.300} ({last.filename}:{last.lineno})")
    print(
        f"{name:<32} {len(numbers):>6} inputs  {time.perf_counter() - started:7.1f} s  {failures:>4} failed", flush=True
    )
    sys.exit(int(failures > 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=600, help="per subject")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--subjects", nargs="+", help="default: all")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # a fork has no other threads
    numbers, failed, fork = (
        range(options.first, options.first + options.inputs),
        [],
        multiprocessing.get_context("fork"),
    )
    with tempfile.TemporaryDirectory() as folder:
        real, work = Path(folder, "real"), Path(folder, "work")
        real.mkdir()
        work.mkdir()
        available = subjects(real)
        names = options.subjects or list(available)
        for name in names:
            current = fork.Value("q", options.first)
            child = fork.Process(target=run, args=(name, available[name], numbers, work, current))
            child.start()
            child.join()
            if child.exitcode:
                failed.append(name)
            if child.exitcode not in (0, 1):
                print(f"{name}: the process ended with {child.exitcode} at input {current.value}")
    print(f"{len(names) * options.inputs:,} inputs; failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
