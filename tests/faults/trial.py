"""One trial: a fault, the documented command again, and the comparison with the undisturbed run."""

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.disturbed import Study
from tests.faults.kinds import KINDS
from tests.slurm import cluster


@dataclass
class Trial:
    """What came of a fault: what the disturbed run said of it, what is wrong afterwards, and how long it took."""

    kind: str
    seed: int
    errors: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    resumed: bool = False
    seconds: float = 0.0


def run(study: Study, kind: str, seed: int) -> Trial:
    """Disturb, start again, compare; the same kind and seed disturb alike, as far as the machine does."""
    trial, started = Trial(kind, seed), time.monotonic()
    with KINDS[kind](study, Random(f"{kind} {seed}")) as said:
        done = study.run()
        log = study.folder / "logs/distill"
        trial.resumed = any("going on after" in path.read_text() for path in log.rglob("*.log"))
        trial.problems += [f"differs: {path}" for path in study.differences()]
    trial.errors = errors_of(said)
    if done.returncode:
        again = done.stdout + done.stderr
        trial.problems.append(f"the run after it fails: {errors_of(again)} {said_last(again)}")
    trial.problems += [f"a traceback: {said_last(text)}" for text in (said, done.stderr) if "Traceback" in text]
    trial.problems += re.findall(r"^lost: .*", said, re.MULTILINE)
    trial.seconds = time.monotonic() - started
    return trial


def errors_of(text: str) -> list[str]:
    """The one-line errors of jobs, each once."""
    return sorted(set(re.findall(r"^error: .*", text, re.MULTILINE)))


def said_last(text: str) -> str:
    """The end of what a run said, in one line."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-600:]


def unavailable(kind: str, folder: Path) -> str:
    """Why a fault can't be brought about on this machine; empty where it can."""
    if kind.startswith("SLURM"):
        return cluster.unavailable()
    if not kind.startswith(("disk full", "read-only")):
        return ""
    if os.geteuid():
        return "file systems are mounted as root"
    folder.mkdir(exist_ok=True)
    tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True)
    if tried.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    return f"mounting is not allowed ({tried.stderr.strip()})" if tried.returncode else ""
