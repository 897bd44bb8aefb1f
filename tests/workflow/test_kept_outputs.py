"""A job that is refused loses nothing that was computed before, and is still planned for the reasons it had."""

import os
import shutil

import pytest

from tests.workflow.study import Workflow

CELLS = "results/digits/seed=0"
TEACHER, KD = f"{CELLS}/teacher/model.safetensors", f"{CELLS}/teacher/kd/model.safetensors"
HISTORY = KD.replace("model.safetensors", "history.csv")
NETWORK = {"architecture": "resnet18", "width": 0.0625, "epochs": 1, "batch_size": 512}
SMALL = {"recipes": ["hard", "teacher/kd"], "teacher": NETWORK, "student": NETWORK}


class Small(Workflow):
    def configure(self, changes: dict) -> None:
        super().configure(SMALL | changes)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    workflow = Small(tmp_path_factory.mktemp("original"))
    done = workflow.run("--cores", "2")
    assert done.returncode == 0, done.stderr
    return workflow.folder


@pytest.fixture
def refused(original, tmp_path):
    """Return a function that runs the study while the file of another cell is the teacher's, and puts that right."""
    workflow = Small(tmp_path / "study", original)
    kept = workflow.folder / "teacher"
    shutil.copy2(workflow.folder / TEACHER, kept)

    def run() -> Small:
        shutil.copy(workflow.folder / f"{CELLS}/hard/model.safetensors", workflow.folder / TEACHER)
        done = workflow.run("--cores", "1", KD)
        assert done.returncode == 1 and "recipe: found 'hard', expected 'teacher'" in done.stderr
        assert {KD, HISTORY} <= workflow.plan(), "the wrong file is newer"
        shutil.copy2(kept, workflow.folder / TEACHER)
        return workflow

    run.workflow = workflow
    return run


def times(workflow, *files) -> list[int]:
    return [(workflow.folder / file).stat().st_mtime_ns for file in files]


def test_what_was_computed_is_still_there_and_nothing_is_made_again(refused):
    before = times(refused.workflow, KD, HISTORY)
    workflow = refused()
    assert times(workflow, KD, HISTORY) == before
    assert workflow.plan() == set()
    assert list(workflow.folder.glob("results/**/.kept.*")) == []


def test_a_job_that_failed_is_planned_for_its_keys_as_before(refused):
    with refused.workflow.configured({"student": NETWORK | {"epochs": 2}}):
        before = times(refused.workflow, KD, HISTORY)
        workflow = refused()
        assert times(workflow, KD, HISTORY) == before
        assert {KD, HISTORY} <= workflow.plan()
        done = workflow.run("--cores", "1", KD)
        assert done.returncode == 0, done.stderr
        assert workflow.plan(KD) == set() and times(workflow, KD) != before[:1]
        assert list(workflow.folder.glob("results/**/.kept.*")) == []


def test_a_job_that_failed_is_planned_for_a_missing_file_as_before(refused):
    os.unlink(refused.workflow.folder / HISTORY)
    workflow = refused()
    assert {KD, HISTORY} <= workflow.plan(HISTORY) and (workflow.folder / KD).exists()
