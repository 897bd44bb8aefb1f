"""Around the work of a job: its log, its lock, and one line for who stops it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdq.errors import UserError
from kdq.fingerprint import Fingerprints
from kdq.job import check_code, running

WAITS = """
import sys, time
from kdq.job import running
with running("job.log") as log:
    log("begun")
    print("begun", file=sys.__stdout__, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def job(tmp_path, home):
    """A job that has begun, and waits."""
    words = [sys.executable, "-c", WAITS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=tmp_path, env={"PYTHONPATH": str(home)}, **pipes)
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def test_a_stopped_job_says_so_in_one_line(job, tmp_path):
    job.send_signal(signal.SIGTERM)
    assert job.communicate(timeout=60)[1] == "error: stopped by SIGTERM; the log is job.log\n"
    assert job.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in (tmp_path / "job.log").read_text()


def test_stopped_while_its_code_is_checked_it_stops_behind_that(monkeypatch, tmp_path, capsys):
    checked = []

    def of(self, *files):
        os.kill(os.getpid(), signal.SIGTERM)
        checked.append(files)
        return "planned"

    monkeypatch.setattr(Fingerprints, "of", of)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end, running(tmp_path / "job.log"):
            check_code("planned", "scripts/a.py")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert checked and end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"error: stopped by SIGTERM; the log is {tmp_path / 'job.log'}\n"


def test_nobody_makes_the_same_files_at_the_same_time(job, tmp_path):
    with pytest.raises(SystemExit, match="another process writes it") as refused, running(tmp_path / "job.log"):
        pytest.fail("the job must not run")
    assert "\n" not in refused.value.code
    assert "begun" in (tmp_path / "job.log").read_text()  # nor empty the log of the other
    job.kill()
    job.wait()
    with running(tmp_path / "job.log") as log:
        log("again")
    assert "begun" not in (tmp_path / "job.log").read_text()


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="error: .*: can't be written") as refused, running(tmp_path / "no/folder/log"):
        pytest.fail("the job must not run")
    assert "\n" not in refused.value.code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("error", [UserError("of the user"), ValueError("of ours")])
def test_where_no_log_can_be_written_the_error_is_still_one_line(error, capsys):
    """A disk that is full from the beginning."""
    with pytest.raises(SystemExit), running("/dev/full"):
        raise error
    assert len(capsys.readouterr().err.splitlines()) == 1
