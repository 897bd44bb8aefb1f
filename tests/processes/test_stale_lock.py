"""A lock that nobody holds is removed; one whose holder lives, or may live on another machine, is not."""

import subprocess
import sys

import pytest

RUN = """
import sys
from pathlib import Path
from kdq.workflow.lock import remove_stale_lock
removed = remove_stale_lock(Path(".snakemake"))
Path(".snakemake/locks").mkdir(exist_ok=True)
Path(".snakemake/locks/0.output.lock").write_text("results/a\\n")
print(removed, flush=True)  # last: who reads it may kill this run
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path, home):
    """Start a run that leaves Snakemake's lock behind; gives its process and whether it removed one."""
    runs = []

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        run = subprocess.Popen([sys.executable, "-c", RUN], cwd=tmp_path, env={"PYTHONPATH": str(home)}, **pipes)
        runs.append(run)
        return run, run.stdout.readline().strip() == "True"

    yield start
    for run in runs:
        run.kill()
        run.communicate()


def test_of_a_killed_run_it_is_removed_and_of_a_living_one_it_is_not(start):
    first, removed = start()
    assert not removed
    second, removed = start()
    assert not removed
    first.kill()
    first.wait()
    assert not start()[1], "the second run lives"
    second.kill()
    second.wait()


def test_each_after_another(start):
    for index in range(3):
        run, removed = start()
        assert removed == (index > 0)
        run.kill()
        run.wait()


def test_of_another_machine_it_is_not(start, tmp_path):
    run, _ = start()
    run.kill()
    run.wait()
    (tmp_path / ".snakemake/kdq.lock").write_text("another")
    assert not start()[1]
    assert (tmp_path / ".snakemake/locks/0.output.lock").exists()
