"""What a job runs is what was checked: an edit while it starts is seen, and one after the check has no effect."""

import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
PARTS = ("errors", "provenance", "recipe", "workflow/job", "workflow/signals", "workflow/snapshot")
METHOD = "kdq/method.py"
SCRIPT = """
from pathlib import Path
from kdq.workflow.job import check_code, running

method = Path("kdq/method.py")

def edit(before, after):
    method.write_text(method.read_text().replace(before, after))

with running(snakemake.log[0]):
    {}
    Path("result").write_text(str(VALUE))
"""
FINGERPRINT = """
from pathlib import Path
from kdq.provenance.fingerprint import Fingerprints
print(Fingerprints(Path.cwd()).of("scripts/a.py", "kdq/method.py"))
"""
CHECK = 'check_code(snakemake.params.job["code"], "scripts/a.py", "kdq/method.py")'
IMPORT = "from kdq.method import VALUE"
EDIT, BACK = "edit('1', '2')", "edit('2', '1')"


@pytest.fixture
def run(tmp_path):
    """Run a job of a package made here, whose script takes some steps; return the job and what it computed."""
    for part in PARTS:
        source = HOME / "kdq" / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / "kdq" / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / "kdq" / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.with_suffix(".py"), (tmp_path / "kdq" / part).with_suffix(".py"))
    for package in ("kdq", "kdq/workflow"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / METHOD).write_text("VALUE = 1\n")
    (tmp_path / "scripts").mkdir()

    def run(*steps: str) -> tuple[subprocess.CompletedProcess, str]:
        script = tmp_path / "scripts/a.py"
        script.write_text(SCRIPT.format("\n    ".join(steps)))
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        planned = subprocess.run([sys.executable, "-c", FINGERPRINT], **options)
        words = [str(script), "--threads", "1", "--log", "log", "--job", json.dumps({"code": planned.stdout.strip()})]
        done = subprocess.run([sys.executable, "-m", "kdq.workflow.job", *words], **options)
        result = tmp_path / "result"
        return done, result.read_text() if result.is_file() else ""

    return run


def test_a_job_without_an_edit(run):
    assert run(IMPORT, CHECK)[1] == run(CHECK, IMPORT)[1] == "1"


def test_an_edit_that_is_taken_back_before_the_check_is_refused(run):
    done, result = run(EDIT, IMPORT, BACK, CHECK)
    assert done.returncode == 1 and result == ""
    code = "scripts/a.py, kdq/method.py or of what is imported there"
    assert done.stderr.startswith(f"error: the code of {code} changed after this run was planned")


def test_after_the_check_an_edit_has_no_effect(run):
    done, result = run(CHECK, EDIT, IMPORT)
    assert (done.returncode, result) == (0, "1"), done.stderr


def test_bytecode_of_an_edit_in_the_same_second_is_not_run(run, tmp_path):
    method = tmp_path / METHOD
    now = method.stat()
    method.write_text("VALUE = 2\n")
    os.utime(method, ns=(now.st_atime_ns, now.st_mtime_ns))
    py_compile.compile(str(method))
    method.write_text("VALUE = 1\n")
    os.utime(method, ns=(now.st_atime_ns, now.st_mtime_ns))
    assert run(IMPORT, CHECK)[1] == "1"
