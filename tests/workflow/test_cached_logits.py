"""A teacher's logits as a file of the workflow: made for the cells that ask for it, again where its code changes."""

import csv

import pytest

from kdq.provenance.files import read_header, sha256
from kdq.recipe.path import Cell
from tests.workflow.study import Workflow
from tests.workflow.test_reruns import appended

TEACHER = "results/digits/seed=0/teacher"
VIEWS = f"{TEACHER}/views,crop=1,flip=false,precision=auto.safetensors"
PLAIN, CACHED = (f"{TEACHER}/{stage}/model.safetensors" for stage in ("kd", "kd,teacher_cache=true"))
HISTORIES = {path.replace("model.safetensors", "history.csv") for path in (PLAIN, CACHED)}


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("cache"))
    workflow.configure({"teacher": {"epochs": 1}, "student": {"epochs": 1}, "recipes": ["teacher"]})
    done = workflow.run("--cores", "1", PLAIN, CACHED)
    assert done.returncode == 0, done.stderr
    return workflow


def test_the_file_says_what_it_is_of_and_the_model_what_it_is_made_with(workflow):
    header = read_header(workflow.folder / VIEWS, "kdq-teacher-views/1")
    assert (header["crop"], header["flip"]) == (1, False)
    assert {key: header[key] for key in ("dataset", "seed", "recipe")} == Cell.of(VIEWS).identity
    assert header["teacher"] == sha256(workflow.folder / f"{TEACHER}/model.safetensors")
    inputs = read_header(workflow.folder / CACHED, "kdq-model/1")["provenance"]["inputs"]
    assert inputs["views"] == sha256(workflow.folder / VIEWS) and inputs["data"] == header["data"]
    assert "views" not in read_header(workflow.folder / PLAIN, "kdq-model/1")["provenance"]["inputs"]


def test_the_losses_are_those_of_the_teacher_beside_the_student(workflow):
    rows = []
    for path in (PLAIN, CACHED):
        with open(workflow.folder / path.replace("model.safetensors", "history.csv")) as file:
            rows += csv.DictReader(file)
    for key in ("loss_cross_entropy", "loss_distillation"):
        assert float(rows[0][key]) == pytest.approx(float(rows[1][key]), rel=0.01)


def test_an_edit_of_its_code_reruns_it_and_the_cells_that_ask_for_it(workflow):
    assert workflow.plan(PLAIN, CACHED) == set()
    with workflow.edited("kdq/distill/teacher_cache.py", appended("EDITED = 1")):
        assert workflow.plan(PLAIN, CACHED) == {VIEWS, CACHED, CACHED.replace("model.safetensors", "history.csv")}


def test_an_edit_of_the_teacher_reruns_all(workflow):
    with workflow.edited("kdq/roots/methods/teacher.py", appended("EDITED = 1")):
        teacher = {f"{TEACHER}/model.safetensors", f"{TEACHER}/history.csv"}
        assert workflow.plan(PLAIN, CACHED) == {*teacher, VIEWS, PLAIN, CACHED, *HISTORIES}


def test_a_truncated_file_stops_the_job_that_reads_it(workflow):
    file = workflow.folder / VIEWS
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-100])
        done = workflow.run("--cores", "1", f"{TEACHER}/dkd,teacher_cache=true/model.safetensors")
        assert done.returncode != 0
        assert f"error: {VIEWS}: not a readable safetensors file" in done.stderr
    finally:
        file.write_bytes(whole)
