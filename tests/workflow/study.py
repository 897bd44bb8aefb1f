"""The real workflow, copied to a folder of its own: the study of the digits with two epochs per training."""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from kdq.study.config import merged

HOME = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "LICENSE", "kdq", "scripts", "rules", "profiles", "envs", "studies", "docs/report")
DIGITS = HOME / "studies/digits.yaml"  # the default study of a copy
SHORT = {"teacher": {"epochs": 2}, "student": {"epochs": 2}, "latency": False}


class Workflow:
    """A copy of the workflow in ``folder``, always run with the config ``overlay.yaml``.

    With ``original``, a folder of another such workflow, its results, records and modification times are copied too.
    """

    def __init__(self, folder: Path, original: Path | None = None):
        self.folder = folder
        self.overlay = folder / "overlay.yaml"
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if original:
            shutil.copytree(original, folder, symlinks=True, dirs_exist_ok=True)
        else:
            self._copy_code()
            self.configure({})

    def _copy_code(self) -> None:
        for part in PARTS:
            source, place = HOME / part, self.folder / part
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place)
        shutil.copy(DIGITS, self.folder / "config.yaml")

    def configure(self, changes: dict) -> None:
        self.overlay.write_text(changed_default({**SHORT, **changes}))

    def command(self, *arguments) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--configfile", str(self.overlay), *arguments]

    def run(self, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def finish(self) -> None:
        """Make all of the study."""
        done = self.run("--cores", "2")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]

    def rows(self, name: str) -> list[dict]:
        """Return the rows of a table of the study."""
        with open(self.folder / f"results/studies/overlay/{name}.csv") as file:
            return list(csv.DictReader(file))

    def plan(self, *targets) -> set[str]:
        """Return every output that Snakemake would make now."""
        program = [sys.executable, str(HOME / "tests/workflow/plan.py"), str(self.folder), str(self.overlay), *targets]
        done = subprocess.run(program, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout))

    @contextlib.contextmanager
    def edited(self, path: str, change):
        """Replace the text of a file by ``change(text)``, newer than every output, and restore it afterwards."""
        file = self.folder / path
        before, status = file.read_bytes(), file.stat()
        after = change(before.decode())
        assert after != before.decode() or change is touch, f"the edit of {path} changes nothing"
        file.write_text(after)
        os.utime(file, (status.st_atime + 10_000, status.st_mtime + 10_000))
        try:
            yield
        finally:
            file.write_bytes(before)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    @contextlib.contextmanager
    def configured(self, changes: dict):
        """Configure ``changes`` within the block."""
        self.configure(changes)
        try:
            yield
        finally:
            self.configure({})


def changed_default(changes: dict) -> str:
    """Return the config of the study of the digits with changes, without its quantized activations."""
    study = merged([DIGITS])
    recipes = [recipe for recipe in study["recipes"] if "activations" not in recipe]
    return yaml.safe_dump(merged([("study", study | {"recipes": recipes}), ("changes", changes)]))


def touch(text: str) -> str:
    return text
