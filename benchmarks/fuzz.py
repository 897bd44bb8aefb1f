"""Change what users and copies bring in, thousands of times, and read it: each ends well or in one clear line.

    python -m benchmarks.fuzz [--inputs 600] [--first 0] [--subjects recipe config ...]

Each subject (``tests/fuzz/subjects.py``) is read in a fork of its own, so that a crash is found too, with the number
of its input: ``--subjects NAME --first NUMBER --inputs 1`` does it again. No input may write elsewhere, start a
process, ask the network, take 20 s or 512 MiB (``tests/fuzz/guard.py``).
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


def run(name: str, subject: Subject, numbers: range, folder: Path, at) -> None:
    """Read changes of one subject, noting in ``at`` which is being read; prints what is wrong."""
    wrong, started = 0, time.perf_counter()
    for number in numbers:
        at.value = number
        try:
            read_guarded(subject, number, name, folder)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            print(f"  input {number}: {type(error).__name__}: {error!s:.300} ({last.filename}:{last.lineno})")
    print(f"{name:<32} {len(numbers):>6} inputs  {time.perf_counter() - started:7.1f} s  {wrong:>4} wrong", flush=True)
    sys.exit(int(wrong > 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=600, help="of each subject")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--subjects", nargs="+", help="by default all")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # a fork has no other threads
    numbers, failed, fork = range(given.first, given.first + given.inputs), [], multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        real, work = Path(folder, "real"), Path(folder, "work")
        real.mkdir()
        work.mkdir()
        found = subjects(real)
        names = given.subjects or list(found)
        for name in names:
            at = fork.Value("q", given.first)
            child = fork.Process(target=run, args=(name, found[name], numbers, work, at))
            child.start()
            child.join()
            if child.exitcode:
                failed.append(name)
            if child.exitcode not in (0, 1):
                print(f"{name}: the process ended with {child.exitcode} at input {at.value}")
    print(f"{len(names) * given.inputs:,} inputs; wrong: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
