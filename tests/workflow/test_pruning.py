"""Recipes in which networks are pruned, quantized and distilled, in every order: files, tables and what reruns."""

import json
import re

import pytest

from kdq.models import file as model_file
from kdq.provenance.files import read_header, sha256
from tests.workflow.study import HOME, Workflow
from tests.workflow.test_adopt import command, not_fresh
from tests.workflow.test_reruns import appended

PRUNE, QUANTIZE, DISTIL = (
    "magnitude,gradual=1,sparsity=0.75",
    "rtn,activations=8,bits=4/qat",
    "finetune,distillation_weight=1,teacher=teacher",
)
ORDERS = [
    f"hard/{PRUNE}/{QUANTIZE}/{DISTIL}",
    f"hard/{PRUNE}/{DISTIL}/{QUANTIZE}",
    f"hard/{QUANTIZE}/{PRUNE}/{DISTIL}",
    f"hard/{DISTIL}/{QUANTIZE}/{PRUNE}",
]
NARROW = "hard/channels,epochs=1,ratio=0.5"
DENSE = f"hard/{QUANTIZE}"
STUDY = {
    "teacher": {"epochs": 2, "width": 0.125},
    "student": {"epochs": 2, "width": 0.25},
    "retrain": {"epochs": 1},
    "stages": {"rtn": {"images": 32, "scale": 0.8}},
    "recipes": [*ORDERS, f"{NARROW}/rtn,bits=4", DENSE],
}
FOLDER = "results/digits/seed=0"


@pytest.fixture(scope="module")
def workflow(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("pruning"))
    workflow.configure(STUDY)
    workflow.finish()
    return workflow


def test_each_order_ends_with_as_many_weights_in_a_smaller_file(workflow):
    found = {row["recipe"]: row for row in workflow.rows("table")}
    dense = found[DENSE]
    for recipe in ORDERS:
        row = found[recipe]
        assert float(row["sparsity"]) == pytest.approx(0.75, abs=1e-4) and float(dense["sparsity"]) == 0
        assert int(row["parameters"]) == int(found[ORDERS[0]]["parameters"]) < int(dense["parameters"])
        assert int(row["quantized_weights"]) == int(dense["quantized_weights"]) - round(
            0.75 * int(dense["quantized_weights"])
        )
        # 1 bit of 4 a weight for codes, and less than one for the mask
        assert int(row["file_bytes"]) < 0.75 * int(dense["file_bytes"])
        assert int(row["macs"]) < 0.6 * int(dense["macs"])
        assert (row["bits"], row["activation_bits"]) == ("4", "8")
        model = model_file.read(workflow.folder / FOLDER / recipe / "model.safetensors")
        assert all(not model.codes[name].codes[~mask].any() for name, mask in model.masks.items())


def test_the_last_float_model_is_what_is_quantized(workflow):
    found = {row["recipe"]: row["network"] for row in workflow.rows("table")}
    assert found[ORDERS[0]] == f"hard/{PRUNE}" and found[ORDERS[1]] == f"hard/{PRUNE}/{DISTIL}"
    assert found[ORDERS[2]] == "hard" and found[f"{NARROW}/rtn,bits=4"] == NARROW


def test_the_orders_are_compared_with_the_best_of_their_size(workflow):
    size = next(row["parameters"] for row in workflow.rows("table") if row["recipe"] == ORDERS[0])
    found = [row for row in workflow.rows("sequences") if row["question"] == "order" and row["parameters"] == size]
    assert len({row["recipe"] for row in found if row["activation_bits"] == "8"}) == 1
    assert {row[key] for row in found for key in ("recipe", "other")} >= set(ORDERS)


def test_the_teacher_is_the_studys_whatever_the_root(workflow):
    taught = workflow.folder / FOLDER / f"hard/{PRUNE}/{DISTIL}/model.safetensors"
    teacher = workflow.folder / FOLDER / "teacher/model.safetensors"
    assert read_header(taught, "kdq-model/1")["provenance"]["inputs"]["teacher"] == sha256(teacher)


def test_a_narrow_network_is_smaller_and_does_less(workflow):
    found = {row["recipe"]: row for row in workflow.rows("table")}
    narrow, whole = found[NARROW], found["hard"]
    assert int(narrow["parameters"]) < 0.3 * int(whole["parameters"]) and float(narrow["sparsity"]) == 0
    assert int(narrow["macs"]) < 0.4 * int(whole["macs"])


def test_models_are_exported_and_archived(workflow):
    targets = [f"{FOLDER}/{recipe}/model.onnx.json" for recipe in (ORDERS[0], f"{NARROW}/rtn,bits=4")]
    archive = f"{FOLDER}/{ORDERS[0]}/model.archive.safetensors"
    done = workflow.run("--cores", "2", *targets, archive)
    assert done.returncode == 0, done.stderr[-4000:]
    for target in targets:
        record = json.loads((workflow.folder / target).read_text())
        metrics = json.loads((workflow.folder / target).with_name("metrics.json").read_text())
        assert record["test"]["top1"] == pytest.approx(metrics["test"]["top1"], abs=0.02)


def test_all_is_fresh_and_an_edit_reruns_what_has_it(workflow):
    assert workflow.plan() == set()
    verified = command(workflow, "kdq.provenance.verify")
    assert (verified.returncode, not_fresh(verified)) == (0, set()), verified.stdout[-2000:] + verified.stderr
    models = {recipe: f"{FOLDER}/{recipe}/model.safetensors" for recipe in (*ORDERS, NARROW, DENSE, "hard")}
    with workflow.edited("kdq/prune/methods/magnitude.py", appended("EDITED = 1")):
        planned = workflow.plan()
    assert planned.issuperset(models[recipe] for recipe in ORDERS)
    assert not planned & {models[NARROW], models[DENSE], models["hard"]}
    with workflow.edited("kdq/prune/methods/channels.py", appended("EDITED = 1")):
        planned = workflow.plan()
    assert models[NARROW] in planned and not planned & {models[recipe] for recipe in (*ORDERS, DENSE, "hard")}
    with workflow.edited("kdq/tune/methods/finetune.py", appended("EDITED = 1")):
        planned = workflow.plan()
    assert planned.issuperset(models[recipe] for recipe in ORDERS)
    assert not planned & {models[NARROW], models[DENSE], f"{FOLDER}/hard/{PRUNE}/model.safetensors"}


def test_the_figure_of_techniques_has_the_milliseconds_of_a_study_that_measures_them(fresh):
    fresh.configure(STUDY | {"recipes": ["hard/magnitude,epochs=0/rtn,bits=4"], "latency": True})
    fresh.finish()
    assert {row["recipe"] for row in fresh.rows("deployment")} >= {"hard", "hard/magnitude,epochs=0/rtn,bits=4"}
    assert (fresh.folder / "results/studies/overlay/figures/digits/techniques.png").is_file()


def test_the_method_in_the_documentation_is_one_file(workflow):
    text = (HOME / "docs/extending.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "class Random(Pruner)" in block)
    file, path = workflow.folder / "kdq/prune/methods/random.py", f"{FOLDER}/hard/random,sparsity=0.3"
    file.write_text(code)
    done = workflow.run("--cores", "2", f"{path}/metrics.json")
    file.unlink()
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads((workflow.folder / path / "metrics.json").read_text())["sparsity"] == pytest.approx(0.3, abs=1e-4)
