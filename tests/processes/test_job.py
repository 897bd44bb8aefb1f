"""Around the work of a job: its log, its lock, and one line for who stops it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from kdq.errors import UserError
from kdq.provenance.files import read_tensors, write_tensors
from kdq.provenance.fingerprint import Fingerprints, combined
from kdq.workflow.job import check_code, request, running

WAITS = """
import sys, time
from kdq.workflow.job import running
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


def test_an_interrupted_job_says_so_in_one_line(job, tmp_path):
    job.send_signal(signal.SIGINT)
    assert job.communicate(timeout=60)[1] == "error: interrupted\n"
    assert job.returncode == 128 + signal.SIGINT
    assert "error: interrupted" in (tmp_path / "job.log").read_text()


def test_an_error_that_a_run_shows_from_the_log_is_not_shown_twice(monkeypatch, tmp_path, capsys):
    def fail(log_file) -> str:
        with pytest.raises(SystemExit), running(log_file):
            raise UserError("the loss is nan")
        return capsys.readouterr().err

    assert fail(tmp_path / "job.log") == "error: the loss is nan\n"
    monkeypatch.setenv("KDQ_ERRORS", "log")
    assert fail(tmp_path / "job.log") == ""
    assert fail("/dev/full") == "error: the loss is nan\n"  # no log could hold it


@pytest.fixture
def stopped_by():
    """SIGTERM, as it comes from outside, with the handler of before restored at the end."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def test_stopped_while_its_code_is_checked_it_stops_behind_that(monkeypatch, tmp_path, capsys, stopped_by):
    checked = []

    def digests(self, *files):
        stopped_by()
        checked.append(files)
        return {"scripts/a.py": "0"}

    monkeypatch.setattr(Fingerprints, "digests", digests)
    with pytest.raises(SystemExit) as end, running(tmp_path / "job.log"):
        check_code(combined({"scripts/a.py": "0"}), "scripts/a.py")
    assert checked and end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"error: stopped by SIGTERM; the log is {tmp_path / 'job.log'}\n"


@pytest.mark.parametrize("function", ["load_file", "save_file"])
def test_stopped_while_a_file_is_read_or_written_it_does_not_call_the_file_damaged(
    monkeypatch, tmp_path, capsys, stopped_by, function
):
    """The library takes an exception of a signal's handler for one of its own, and goes on to another error."""
    path, original = tmp_path / "tensors", getattr(safetensors.torch, function)
    write_tensors(path, {"weight": torch.zeros(3)}, {"format": "of a test"})
    before = path.read_bytes()

    def interrupted(*arguments, **keys):
        try:
            stopped_by()
        except BaseException:
            raise ValueError("could not determine the shape") from None
        return original(*arguments, **keys)

    monkeypatch.setattr(safetensors.torch, function, interrupted)
    with pytest.raises(SystemExit) as end, running(tmp_path / "job.log"):
        if function == "load_file":
            read_tensors(path, "of a test")
        else:
            write_tensors(path, {"weight": torch.ones(3)}, {"format": "of a test"})
    assert end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"error: stopped by SIGTERM; the log is {tmp_path / 'job.log'}\n"
    assert path.read_bytes() == before and {file.name for file in tmp_path.iterdir()} == {"tensors", "job.log"}


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


def test_the_job_and_lists_of_files_reach_the_script_by_standard_input():
    arguments = ["a.py", "--input", "table=t.csv", "--threads", "1", "--log", "l"]
    many = [f"results/{number}.json" for number in range(10_000)]
    lines = ["job '{\"k\": 1}'\n", f"metrics {' '.join(many)}\n", "data 'a file' b\n", "none\n"]
    _, snakemake = request(arguments, lines)
    assert snakemake.params.job == {"k": 1}
    assert snakemake.input.metrics == many
    assert (snakemake.input.data, snakemake.input.none) == (["a file", "b"], [])
    assert list(snakemake.input) == ["t.csv", *many, "a file", "b"]


def test_params_that_snakemake_does_not_record_reach_the_script():
    arguments = ["a.py", "--threads", "1", "--log", "l", "--job", "{}", "--unrecorded", 'places={"folder": "a=b"}']
    assert request(arguments)[1].params.places == {"folder": "a=b"}
