"""Count losses from faults at random moments of a tiny real study, and the errors that were reported.

    python -m benchmarks.faults [--trials 20] [--kinds "training" "disk full"] [--first-seed 0]

Kinds of faults are those whose names contain a word of ``--kinds``; killed trainings are tried five times as often. In
a trial the fault is followed by the documented command, and all results are compared byte for byte with those of an
undisturbed run.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.disturbed import Study
from tests.faults.kinds import KINDS
from tests.faults.trial import run, unavailable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=[""])
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))  # so that no cluster is left running
    folder = Path(tempfile.mkdtemp(prefix="kdq-faults-"))
    lost = 0
    try:
        study = Study(folder)
        print(f"undisturbed: {study.seconds:.1f} s, {len(study.undisturbed)} files")
        for kind in (kind for kind in KINDS if any(word in kind for word in options.kinds)):
            lost += many(study, kind, range(options.first_seed, options.first_seed + trials(kind, options.trials)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{lost} trials with a loss")
    return 1 if lost else 0


def trials(kind: str, each: int) -> int:
    return each * 5 if kind == "SIGKILL of a training" else each


def many(study: Study, kind: str, seeds: range) -> int:
    """Run the trials of a kind; print their line of the table, losses and errors. Return the number of losses."""
    if reason := unavailable(kind, study.folder.parent / "mount"):
        print(f"{kind:28} skipped: {reason}")
        return 0
    done = [run(study, kind, seed) for seed in seeds]
    wrong = [trial for trial in done if trial.problems]
    resumed, seconds = sum(trial.resumed for trial in done), sum(trial.seconds for trial in done) / len(done)
    print(
        f"{kind:28} {len(done):4} trials, {len(wrong)} with a loss, {resumed} resumed, {seconds:.1f} s each", flush=True
    )
    for trial in wrong:
        print(f"    seed {trial.seed}: {'; '.join(trial.problems)}")
    for error, count in Counter(error for trial in done for error in trial.errors).most_common(5):
        print(f"    {count} x {error}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
