"""Quantized activations through the workflow: they reach the file, the retrained one too, and the tables."""

import csv
import json

import pytest

from kdq.provenance.files import read_header
from kdq.provenance.formats import MODEL
from tests.workflow.study import Workflow
from tests.workflow.test_reruns import REPORT

STUDY = {
    "teacher": {"epochs": 1, "width": 0.125},
    "student": {"epochs": 1},
    "retrain": {"epochs": 1},
    "stages": {"gpfq": {"images": 32, "scale": 0.8}},
}
EXPECTED = {  # bits of activations
    "teacher/kd/gpfq,activations=8,bits=4": {8},
    "teacher/kd/gpfq,activations=8,bits=4/qat": {8},
    "teacher/kd/gpfq,activations=8,bits=4/qat,activations=0": set(),
    "teacher/kd/gpfq,activation_order=last,activations=8,bits=4": {8},
    "teacher/kd/gpfq,bits=4/qat": set(),
    "teacher/kd/gpfq,bits=4/qat,activations=4": {4},
}


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("activations"))
    workflow.configure({**STUDY, "recipes": list(EXPECTED)})
    done = workflow.run("--cores", "2")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return workflow


@pytest.mark.parametrize("recipe", EXPECTED)
def test_a_file_holds_what_its_recipe_names(workflow, recipe):
    folder = workflow.folder / "results/digits/seed=0" / recipe
    entries = read_header(folder / "model.safetensors", MODEL).get("activations", [])
    assert {entry["bits"] for entry in entries} == EXPECTED[recipe]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["recipe"] == recipe


def test_rows_of_the_table_tell_recipes_apart(workflow):
    with open(workflow.folder / REPORT / "table.csv", encoding="utf-8") as file:
        found = {row["recipe"]: row for row in csv.DictReader(file)}
    assert found.keys() >= EXPECTED.keys()
    assert len({found[recipe]["quantizer"] for recipe in EXPECTED}) == len(EXPECTED)
