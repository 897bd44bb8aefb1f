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
    """The outcome of a fault: errors of the disturbed run, problems afterwards, and the time."""

    kind: str
    seed: int
    errors: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    resumed: bool = False
    seconds: float = 0.0


def run(study: Study, kind: str, seed: int) -> Trial:
    """Disturb, start again, compare; equal kinds and seeds disturb alike, as far as the machine permits."""
    trial, started = Trial(kind, seed), time.monotonic()
    with KINDS[kind](study, Random(f"{kind} {seed}")) as output:
        done = study.run()
        log = study.folder / "logs/distill"
        trial.resumed = any("going on after" in path.read_text() for path in log.rglob("*.log"))
        trial.problems += [f"differs: {path}" for path in study.differences()]
    trial.errors = errors_of(output)
    if done.returncode:
        again = done.stdout + done.stderr
        trial.problems.append(f"the run after it fails: {errors_of(again)} {last_output(again)}")
    trial.problems += [f"a traceback: {last_output(text)}" for text in (output, done.stderr) if "Traceback" in text]
    trial.problems += re.findall(r"^lost: .*", output, re.MULTILINE)
    trial.seconds = time.monotonic() - started
    return trial


def errors_of(text: str) -> list[str]:
    """Return the one-line errors of jobs, each once."""
    return sorted(set(re.findall(r"^error: .*", text, re.MULTILINE)))


def last_output(text: str) -> str:
    """Return the end of a run's output, in one line."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-600:]


def unavailable(kind: str, folder: Path) -> str:
    """Return why a fault can't be caused on this machine; empty if it can."""
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
