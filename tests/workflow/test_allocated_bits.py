"""A study with budgets: layers are measured once per network and quantizer, for all budgets, orders and the report."""

import csv
import json

import pytest

from kdq.models import archive, load
from tests.workflow.study import Workflow
from tests.workflow.test_reruns import appended, made

BUDGETS = ["hard/gpfq,budget=2.5", "hard/gpfq,budget=3,order=iterative"]
RECIPES = ["hard/gpfq,bits=3", *BUDGETS]
CELLS = "results/digits/seed=0"
MEASURED = f"{CELLS}/hard/gpfq/sensitivity.csv"
FOLDER = "results/studies/overlay"  # of overlay.yaml
REPORT = {f"{FOLDER}/sensitivity.csv", *(f"{FOLDER}/figures/digits/sensitivity.{form}" for form in ("png", "svg"))}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("budget"))
    workflow.configure({"recipes": RECIPES, "stages": {"gpfq": {"images": 64}}})
    done = workflow.run("--cores", "2")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return workflow


def metrics(study, recipe) -> dict:
    return json.loads((study.folder / CELLS / recipe / "metrics.json").read_text())


def cells(paths) -> set[str]:
    """Return the planned files that belong to a cell."""
    return {path for path in paths if path.startswith(f"{CELLS}/")}


def test_all_budgets_read_one_measurement(study):
    tables = [str(path.relative_to(study.folder)) for path in study.folder.glob("results/**/sensitivity.csv")]
    assert sorted(tables) == sorted([MEASURED, f"{FOLDER}/sensitivity.csv"])
    inputs = [metrics(study, recipe)["provenance"]["inputs"] for recipe in RECIPES]
    assert ["sensitivity" in files for files in inputs] == [False, True, True]
    assert inputs[1] == inputs[2]


@pytest.mark.parametrize(("recipe", "budget"), list(zip(BUDGETS, (2.5, 3), strict=True)))
def test_the_bits_keep_the_budget(study, recipe, budget):
    quantized = metrics(study, recipe)
    weights = [layer["weights"] for layer in quantized["layers"]]
    bits = [layer["bits"] for layer in quantized["layers"]]
    spent = sum(w * b for w, b in zip(weights, bits, strict=True))
    assert budget - 0.05 < spent / sum(weights) <= budget and len(set(bits)) > 2
    assert quantized["nominal_bits"] == pytest.approx(spent / sum(weights))
    plain = metrics(study, "hard/gpfq,bits=3")
    names = 2000  # bytes: headers differ in their keys and in each layer's bits
    assert quantized["file_bytes"] < plain["file_bytes"] - sum(weights) * (3 - budget) / 8 + names


def test_the_tables_show_the_bits(study):
    with open(study.folder / f"{FOLDER}/table.csv") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    for recipe in BUDGETS:
        assert float(rows[recipe]["bits"]) == pytest.approx(metrics(study, recipe)["nominal_bits"], abs=1e-6)
    assert rows["hard/gpfq,bits=3"]["bits"] == "3" and rows["hard"]["entropy_bytes"] == ""
    with open(study.folder / f"{FOLDER}/sensitivity.csv") as file:
        assert len(list(csv.DictReader(file))) == 21 * 7


def test_what_reruns(study):
    assert study.plan() == set()
    chosen = {"recipes": RECIPES, "stages": {"gpfq": {"images": 64, "batchnorm": "reestimate"}}}
    with study.edited("kdq/quantize/bits/sensitivity.py", appended("EDITED = 1")):
        planned = study.plan()
        assert cells(planned) == {MEASURED} | made(others=BUDGETS) and planned >= REPORT
    with study.edited("kdq/quantize/bits/budget.py", appended("EDITED = 1")):
        planned = study.plan()
        assert cells(planned) == made(others=RECIPES) and not REPORT & planned
    study.configure(chosen)
    assert cells(study.plan()) == made(others=RECIPES)
    study.configure({"recipes": RECIPES, "stages": {"gpfq": {"images": 64}}})


def test_an_archive_on_request(study):
    folder = study.folder / CELLS / BUDGETS[0]
    done = study.run("--cores", "1", f"{CELLS}/{BUDGETS[0]}/model.archive.safetensors")
    assert done.returncode == 0, done.stderr
    packed = folder / "model.archive.safetensors"
    assert packed.stat().st_size == metrics(study, BUDGETS[0])["entropy_bytes"]
    archive.unpack(packed, folder / "again")
    assert (folder / "again").read_bytes() == (folder / "model.safetensors").read_bytes()
    state, again = load(folder / "model.safetensors").state_dict(), load(packed).state_dict()
    assert all(value.equal(again[name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"{CELLS}/hard/gpfq,bits=3,budget=3/metrics.json", "bits: found 3: the budget gives each layer its own"),
        (f"{CELLS}/hard/gpfq,budget=3/sensitivity.csv", "expected hard/gpfq/sensitivity.csv"),
        (f"{CELLS}/hard/model.archive.safetensors", "has no archive"),
    ],
)
def test_a_slip_is_one_line(fresh, target, expected):
    done = fresh.run("--cores", "1", "--dry-run", target)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert done.returncode != 0 and lines[0].startswith("error: ") and expected in lines[0]
