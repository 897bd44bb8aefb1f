"""What a run of the workflow shows: at a terminal, in a pipe, with --quiet, and in a dry run."""

import contextlib
import os
import pty
import re
import subprocess

import pytest

from tests.workflow.study import Workflow
from tests.workflow.test_reruns import appended

RECIPES = ["hard", "hard/rtn,bits=4"]
STUDY = {"recipes": RECIPES, "student": {"epochs": 3}}
FAILS = "hard,learning_rate=100"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROFILE = "Using workflow specific profile"


def at_terminal(workflow: Workflow, *arguments) -> tuple[int, str]:
    """Return exit code and output of a run at a terminal of 80 columns."""
    ours, its = pty.openpty()
    environment = workflow.environment | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONIOENCODING": "utf-8"}
    run = subprocess.Popen(
        workflow.command(*arguments), cwd=workflow.folder, env=environment, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone with its last process
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    return run.wait(), shown.decode()


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> tuple[Workflow, int, str]:
    """A study of which one training fails, run at a terminal: its folder, exit code and output."""
    workflow = Workflow(tmp_path_factory.mktemp("terminal"))
    workflow.configure({"recipes": [*RECIPES, FAILS]})
    return workflow, *at_terminal(workflow, "--cores", "2")


@pytest.fixture(scope="module")
def piped(tried) -> tuple[Workflow, subprocess.CompletedProcess]:
    """That study without what fails, with another key, complete: its folder and what its run wrote into pipes."""
    workflow = tried[0]
    workflow.configure(STUDY)
    return workflow, workflow.run("--cores", "2")


@pytest.fixture
def study(piped) -> Workflow:
    workflow, _ = piped
    yield workflow
    workflow.configure(STUDY)


def test_a_terminal_shows_progress_cells_and_what_failed(tried):
    workflow, code, shown = tried
    lines = [line for text in CONTROL.sub("\n", shown).replace("\r", "\n").splitlines() if (line := text.rstrip())]
    assert code == 1
    assert any(re.fullmatch(r"overlay: \d+ jobs, 3 cells to evaluate", line) for line in lines)
    assert any(re.fullmatch(r"[12]/3  hard +test +\d+\.\d\d%  +\d+ kB", line) for line in lines)
    assert any(re.fullmatch(rf"  Making {FAILS}  .* \d+ s", line) for line in lines)  # while it ran
    assert any(re.match(r"overlay: \d/3 cells +[━─]{16} +\d+%", line) for line in lines)
    failed = lines.index(f"failed: Making {FAILS}")
    assert lines[failed + 1].startswith("error: epoch ") and "loss term" in lines[failed + 1]
    assert lines[failed + 2] == f"log: logs/root/digits/seed=0/{FAILS}.log"
    assert (workflow.folder / lines[failed + 2].removeprefix("log: ")).is_file()
    assert lines[-1].endswith("the next run goes on from here")
    for word in ("Reason:", "Finished jobid", "non-zero exit status", "it/s", "Traceback"):
        assert word not in shown
    (log,) = workflow.folder.glob(".snakemake/log/*.log")
    assert "Reason: Missing output files" in log.read_text() and "Finished jobid" in log.read_text()


def test_a_pipe_gets_plain_lines_causes_and_the_result(piped):
    _, done = piped
    assert done.returncode == 0, done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stdout + done.stderr)
    lines = [line for line in done.stderr.splitlines() if not line.startswith(PROFILE)]
    assert "hard: epochs 2 -> 3: 1 root, 2 cells" in lines
    assert sum(re.match(r"[12]/2  hard\S* +test +\d+\.\d\d% .* kB", line) is not None for line in lines) == 2
    assert len(lines) <= 6, done.stderr
    result = done.stdout.splitlines()
    assert result[1].startswith("digits: best for their size (one seed)") and "hard/rtn,bits=4" in done.stdout
    assert any(re.fullmatch(r"rtn, points of test accuracy by bits: [+-]\d+\.\d at 4", line) for line in result)
    assert result[-1] == "page: results/studies/overlay/index.html" and len(result) <= 8


def test_a_dry_run_ends_with_the_file_that_changed(study):
    with study.edited("kdq/quantize/methods/rtn.py", appended("EDITED = 1")):
        listed, short = study.run("-n"), study.run("-n", "--quiet")
    because = "rtn: kdq/quantize/methods/rtn.py changed: 1 quantized network, 1 cell"
    assert listed.stdout.splitlines()[-1] == because
    assert "Quantizing digits seed 0: hard/rtn,bits=4" in listed.stdout and "Reason" not in listed.stdout
    assert short.stdout.splitlines() == [because]


def test_new_cells_are_counted_and_nothing_new_is_said(study):
    nothing = study.run("--cores", "2")
    assert (
        "Nothing to be done: what was asked for is there" in nothing.stderr and "best for their size" in nothing.stdout
    )
    assert study.run("-n", "--quiet").stdout.startswith("Nothing to be done")
    study.configure(STUDY | {"recipes": [*RECIPES, "hard/rtn,bits={2,3}"]})
    assert study.run("-n").stdout.splitlines()[-1] == "new: 2 cells"


def test_the_words_of_snakemake_keep_their_meaning(study):
    target = "results/digits/seed=0/hard/rtn,bits=3/model.safetensors"
    assert "exec " in study.run("-n", "--printshellcmds", target).stdout
    assert "Reason: Missing output files" in study.run("-n", "--verbose", target).stdout
    assert study.run("--cores", "2", target, "--quiet", "all").stderr.splitlines()[1:] == []
    assert "prepare_data" in study.run("--list-rules").stdout
