"""A tiny real study to disturb, start again, and compare with its undisturbed run byte for byte."""

import base64
import contextlib
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from kdq.train.history import MEASURED
from tests.slurm.cluster import Cluster
from tests.slurm.submission import SOON
from tests.workflow.study import Workflow

SMALL = {"architecture": "resnet18", "width": 0.0625, "batch_size": 128}
CONFIG = {
    "datasets": ["digits"],
    "seeds": [0],
    "teacher": {**SMALL, "epochs": 3},
    "student": {**SMALL, "epochs": 6},
    "recipes": ["teacher", "teacher/kd,teacher_cache=true", "teacher/kd,teacher_cache=true/gpfq,bits=3"],
}
PLACE = "results/digits/seed=0"
TEACHER, STUDENT, QUANTIZED = (f"{PLACE}/{recipe}" for recipe in CONFIG["recipes"])
DATA, VIEWS = "results/digits/data/split=0.safetensors", f"{TEACHER}/views,crop=1,flip=false,precision=auto.safetensors"
KEPT = ("results", "logs", ".snakemake")
SECONDS = 600  # no run of this study takes so long, on a busy machine either


class Study:
    """The study in ``folder``, finished once; every trial begins with that state again."""

    targets = (
        "results/studies/overlay/table.csv",
        "results/studies/overlay/figures/digits/training_curves.svg",
        *(f"{cell}/{name}" for cell in (TEACHER, STUDENT, QUANTIZED) for name in ("model.safetensors", "metrics.json")),
    )

    def __init__(self, folder: Path):
        self.folder = folder / "study"
        self.folder.mkdir()
        self.workflow = Workflow(self.folder)
        self.workflow.configure(CONFIG)
        self.workflow.environment |= {"OMP_NUM_THREADS": "1", "XDG_RUNTIME_DIR": str(folder)}
        started = time.monotonic()
        done = self.run()
        self.seconds = time.monotonic() - started
        if done.returncode:
            raise RuntimeError(done.stderr)
        self.kept = folder / "finished"
        for name in KEPT:
            shutil.copytree(self.folder / name, self.kept / name)
        self.undisturbed = self.digests()

    def seconds_of(self, output: str) -> float:
        """Return the seconds of the job that made a file of the finished study, as Snakemake recorded them."""
        record = json.loads((self.kept / ".snakemake/metadata" / record_name(output)).read_text())
        return record["endtime"] - record["starttime"]

    def mark_incomplete(self, output: str) -> None:
        """Mark a file as Snakemake does when its job has begun on a cluster."""
        folder = self.folder / ".snakemake/incomplete"
        folder.mkdir(exist_ok=True)
        (folder / record_name(output)).write_text('{"external_jobid": "1"}')

    def adopt(self) -> str:
        """Run `make adopt` and return its output."""
        words = [sys.executable, "-m", "kdq.workflow.adopt", "--configfile", str(self.workflow.overlay)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.run(words, cwd=self.folder, env=self.workflow.environment, **pipes).stdout

    def restore(self, *lost: str) -> None:
        """Restore the finished study, without the files and folders ``lost``."""
        for name in KEPT:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(self.kept / name, self.folder / name)
        for path in lost:
            place = self.folder / path
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    def start(self, *arguments) -> subprocess.Popen:
        """The documented command, running."""
        words = self.workflow.command("--cores", "2", *self.targets, *arguments)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(words, cwd=self.folder, env=self.workflow.environment, **pipes)

    def submit(self, cluster: Cluster) -> subprocess.Popen:
        """The documented command on a cluster, for the student alone, running."""
        words = self.workflow.command("--workflow-profile", "profiles/slurm", *SOON, f"{STUDENT}/model.safetensors")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = {**self.workflow.environment, **cluster.variables}
        return subprocess.Popen(words, cwd=self.folder, env=environment, **pipes)

    def run(self) -> subprocess.CompletedProcess:
        """Run the documented command to its end."""
        return self.workflow.run("--cores", "2", *self.targets)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every file of the results by its path, of a history without its times.

        ``code/`` is left out: it has notes on every code that ever made a result.
        """
        results = self.folder / "results"
        files = {path.relative_to(results): path for path in sorted(results.rglob("*")) if path.is_file()}
        return {str(name): digest(path) for name, path in files.items() if name.parts[0] != "code"}

    def differences(self) -> list[str]:
        """Return the files that are missing, changed or added, compared with the undisturbed run."""
        now = self.digests()
        paths = now.keys() | self.undisturbed.keys()
        return sorted(path for path in paths if now.get(path) != self.undisturbed.get(path))

    def job(self, cell: str, rule: str, run: subprocess.Popen) -> int | None:
        """Wait for the process of a cell's job and return it; None if ``run`` ended before."""
        log = self.folder / "logs" / rule / f"{cell.removeprefix('results/')}.log"
        log.unlink(missing_ok=True)  # of the finished study
        while run.poll() is None:
            if log.is_file() and (processes := processes_with(log)):
                return processes[0]
            time.sleep(0.01)
        return None


def record_name(output: str) -> str:
    """Return the name of Snakemake's record of a file, if it is not too long."""
    return base64.urlsafe_b64encode(output.encode()).decode()


def digest(path: Path) -> str:
    if path.name != "history.csv":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with open(path, newline="") as file:
        rows = [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(file)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def processes_with(path: Path) -> list[int]:
    """Return the processes that have a file open."""
    processes = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == str(path):
                processes.append(int(descriptor.parts[2]))
        except OSError:
            continue  # it ended meanwhile
    return processes


def processes_of(folder: Path) -> list[int]:
    """Return Snakemake, the launcher and the jobs of a study: all whose command line names its folder."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                processes.append(int(path.parts[2]))
        except OSError:
            continue
    return processes


def end(run: subprocess.Popen) -> str:
    """Return the output of a run until its end."""
    return run.communicate(timeout=SECONDS)[0]


def send(process: int | None, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
