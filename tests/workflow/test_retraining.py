"""Recipes in which training follows quantization: a whole chain as files, the tables and what reruns."""

import json

import pytest

from kdq.provenance.files import read_header, sha256
from tests.workflow.study import Workflow
from tests.workflow.test_reruns import REPORT, TABLES, appended, figures, made

STUDY = {
    "teacher": {"epochs": 2, "width": 0.125},
    "student": {"epochs": 2},
    "retrain": {"epochs": 1},
    "stages": {"gpfq": {"images": 32, "scale": 0.8}},
}
RETRAINED = [
    "teacher/kd/gpfq,bits=3/qat",
    "teacher/kd/gpfq,bits=3/qkd,teacher=root",
    "teacher/kd/gpfq,bits=3/dcq",
    "teacher/gpfq,bits=3/qat",
    "teacher/kd/gpfq,bits=3/qat,start=codes",
]
OTHER_ORDER = "teacher/gpfq,bits=3/kd/gpfq,bits=3"
FOLDER = "results/digits/seed=0"
AGAIN = (
    {f"{REPORT}/sequences.csv", f"{REPORT}/sequences.json"}
    | TABLES
    | figures("accuracy_vs_bit_operations", "accuracy_vs_bits", "accuracy_vs_bytes", "sequences")
)


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("retraining"))
    workflow.configure({**STUDY, "recipes": [*RETRAINED, OTHER_ORDER]})
    workflow.finish()
    return workflow


def test_a_retrained_model_is_a_quantized_one(workflow):
    found = {row["recipe"]: row for row in workflow.rows("table")}
    for recipe in RETRAINED:
        row, parent = found[recipe], found[recipe.rsplit("/", 1)[0]]
        assert (row["kind"], row["bits"], row["nominal_bits"]) == ("retrain", "3", "3.000000")
        assert row["quantizer"] == f"{parent['quantizer']}+{recipe.rsplit('/', 1)[1]}"
        assert row["network"] == parent["network"] and row["mean_relative_layer_error"] == ""
        # the same bits a weight; the parent's header has the facts of its quantizer
        assert 0 <= int(parent["file_bytes"]) - int(row["file_bytes"]) < 10_000
        assert parent["mean_relative_layer_error"] != ""
    layers = [row for row in workflow.rows("layers") if row["recipe"] == RETRAINED[0]]
    assert len(layers) == 21 and {row["relative_error"] for row in layers} == {""}


def test_it_learns_from_its_float_ancestor_or_from_the_root(workflow):
    for recipe in RETRAINED:
        inputs = read_header(workflow.folder / FOLDER / recipe / "model.safetensors", "kdq-model/1")["provenance"]
        teacher = "teacher" if "teacher=root" in recipe else recipe.split("/gpfq")[0]
        assert inputs["inputs"]["teacher"] == sha256(workflow.folder / FOLDER / teacher / "model.safetensors")


def test_it_starts_from_its_float_ancestors_weights_whoever_teaches(workflow):
    for recipe in RETRAINED:
        header = read_header(workflow.folder / FOLDER / recipe / "model.safetensors", "kdq-model/1")
        ancestor = workflow.folder / FOLDER / recipe.split("/gpfq")[0] / "model.safetensors"
        expected = "" if "start=codes" in recipe else sha256(ancestor)
        assert header["provenance"]["inputs"].get("ancestor", "") == expected


def test_the_sequences_are_compared_where_networks_are_of_one_size(workflow):
    found = workflow.rows("sequences")
    orders = [{row["sequence"], row["other_sequence"]} for row in found if row["question"] == "order"]
    students = {"teacher/kd/gpfq", "teacher/gpfq/kd/gpfq"}
    students |= {recipe.replace(",bits=3", "") for recipe in RETRAINED if recipe.startswith("teacher/kd")}
    assert set().union(*(pair for pair in orders if pair <= students)) == students
    assert {"teacher/gpfq", "teacher/gpfq/qat"} in orders and len(orders) == len(students)
    epochs = {row["other_sequence"]: row["other_epochs"] for row in found} | {
        row["sequence"]: row["epochs"] for row in found
    }
    assert epochs["teacher/gpfq/kd/gpfq"] == "2" and epochs["teacher/kd/gpfq/dcq"] == epochs["teacher/gpfq/qat"] == "3"
    assert [row["question"] for row in found if row["question"] != "order"] == [
        "teacher at equal bits",
        *(f"teacher at equal {cost}" for cost in ("bytes", "MACs", "bit-operations")),
    ]


def test_an_edit_of_a_way_to_retrain_reruns_its_cells(workflow):
    configured = {**STUDY, "recipes": [*RETRAINED, OTHER_ORDER]}
    workflow.configure(configured)
    assert workflow.plan() == set()
    drawn = figures("training_curves", "layer_errors", "comparisons")
    with workflow.edited("kdq/retrain/methods/qat.py", appended("EDITED = 1")):
        assert workflow.plan() == made([RETRAINED[0], RETRAINED[3], RETRAINED[4]]) | AGAIN | drawn
    with workflow.edited("kdq/distill/methods/kd.py", appended("EDITED = 1")):
        expected = {f"{FOLDER}/{recipe}/model.safetensors" for recipe in RETRAINED[:3]}
        assert expected <= workflow.plan() and f"{FOLDER}/{RETRAINED[3]}/model.safetensors" not in workflow.plan()


def test_a_model_can_be_distilled_from_it(workflow):
    recipe = "teacher/gpfq,bits=3/qat/kd"
    done = workflow.run("--cores", "2", f"{FOLDER}/{recipe}/metrics.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((workflow.folder / FOLDER / recipe / "metrics.json").read_text())["nominal_bits"] == 32


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "hard/qat",
            "retrains a quantized model, but its parent 'hard' is float; did you mean 'hard/gpfq,bits=4/qat'",
        ),
        ("teacher/kd/gpfq/dcq,sections=0", "sections: found 0"),
        ("hard/gpfq/adaptive,averaging=0.9", "averaging: found 0.9: codes of different bits have no average"),
    ],
)
def test_what_can_not_be_retrained_is_one_line(workflow, recipe, expected):
    done = workflow.run("--cores", "1", "--dry-run", f"{FOLDER}/{recipe}/metrics.json")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert done.returncode != 0 and len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ") and expected in lines[0]


def test_a_teacher_that_dcq_can_not_use_is_refused_in_one_line(workflow):
    done = workflow.run("--cores", "1", f"{FOLDER}/teacher/kd/gpfq,bits=3/dcq,teacher=root/metrics.json")
    assert done.returncode != 0
    assert "teacher: found one of architecture resnet50, expected the parent's, resnet18" in done.stderr
