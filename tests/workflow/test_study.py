"""The default study, end to end: the files it leaves on disk, and the message for a mistyped target or config."""

import csv
import json
import subprocess
from collections import Counter

import pytest

from tests.workflow.study import HOME, Workflow
from tests.workflow.test_reruns import ALL_FIGURES, REPORT, TABLES, TRAINED, files, made, quantized


@pytest.mark.smoke
def test_every_artifact_exists(finished):
    expected = made(TRAINED, quantized()) | TABLES | ALL_FIGURES
    missing = [path for path in expected if not (finished.folder / path).stat().st_size]
    assert missing == []
    assert list(finished.folder.glob("results/**/checkpoint.pt")) == []
    assert list(finished.folder.glob("results/**/.*")) == []


@pytest.mark.smoke
def test_the_table_has_a_row_for_every_cell(finished):
    with open(finished.folder / f"{REPORT}/table.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["recipe"] for row in rows} == {*TRAINED, *quantized()}
    assert len(rows) == len(TRAINED) + len(quantized())


def test_the_comparisons_match_the_table(finished):
    with open(finished.folder / f"{REPORT}/table.csv") as file:
        top1 = {row["recipe"]: float(row["test_top1"]) for row in csv.DictReader(file)}
    with open(finished.folder / f"{REPORT}/comparisons.csv") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["family"] for row in rows) == {
        "control": 12,  # 13 float networks against hard
        "quantization": 30,  # 5 networks by 2 quantizers at 3 widths
        "networks": 4 * 6,
        "quantizers": 15,
        "best network": 11,  # 12 students against the best
        "best quantized network": 3 * 6,  # 4 students
        "best quantizer": 15,
    }
    for row in rows:
        assert float(row["difference"]) == pytest.approx(top1[row["recipe"]] - top1[row["other"]], abs=3e-6)
        assert (row["seeds"], row["verdict"]) == ("1", "") and row["note"].startswith("single seed")


@pytest.mark.smoke
def test_a_row_of_the_table_matches_the_metrics(finished):
    with open(finished.folder / f"{REPORT}/table.csv") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    recipe = "teacher/kd/gpfq,bits=3"
    metrics = json.loads((finished.folder / f"results/digits/seed=0/{recipe}/metrics.json").read_text())
    assert float(rows[recipe]["test_top1"]) == pytest.approx(metrics["test"]["top1"], abs=1e-6)
    assert int(rows[recipe]["file_bytes"]) == metrics["file_bytes"]


@pytest.mark.smoke
def test_the_metrics_describe_a_quantized_model(finished):
    path = finished.folder / "results/digits/seed=0/teacher/kd/gpfq,bits=3"
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["recipe"] == "teacher/kd/gpfq,bits=3"
    assert metrics["nominal_bits"] == 3
    assert metrics["file_bytes"] == (path / "model.safetensors").stat().st_size
    assert len(metrics["layers"]) == 21
    assert all(0 < layer["relative_error"] < 1 for layer in metrics["layers"])
    assert set(metrics["provenance"]["inputs"]) == {"data", "parent"}
    for part in ("validation", "test"):
        assert {"agreement_parent", "agreement_root", "top1", "top5"} <= metrics[part].keys()


def test_the_same_study_gives_the_same_bytes(finished, fresh):
    target = "results/digits/seed=0/teacher/gpfq,bits=2/model.safetensors"
    assert fresh.run("--cores", "1", target).returncode == 0
    for path in files(["teacher", "teacher/gpfq,bits=2"], "model.safetensors"):
        assert (fresh.folder / path).read_bytes() == (finished.folder / path).read_bytes()


def test_a_folder_whose_name_means_something_to_a_shell(tmp_path):
    workflow = Workflow(tmp_path / "it's $(touch here) & `there`; #")
    target = "results/digits/seed=0/hard/model.safetensors"
    done = workflow.run("--cores", "1", target)
    assert done.returncode == 0, done.stderr
    assert (workflow.folder / target).is_file()
    assert not [path for path in (*tmp_path.rglob("*here*"), *HOME.glob("*here")) if path != workflow.folder]


def test_quantizing_before_and_after_distilling(finished):
    recipe = "teacher/gpfq,bits=4/kd/rtn,bits=3"
    done = finished.run("--cores", "2", f"results/digits/seed=0/{recipe}/metrics.json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((finished.folder / f"results/digits/seed=0/{recipe}/metrics.json").read_text())
    assert metrics["nominal_bits"] == 3
    assert finished.plan() == set()


def test_the_report_contains_the_figures(finished):
    done = finished.run("--report", "report.zip")
    assert done.returncode == 0, done.stderr
    listing = subprocess.run(
        ["python3", "-m", "zipfile", "-l", "report.zip"], cwd=finished.folder, capture_output=True, text=True
    ).stdout
    for figure in ("accuracy_vs_bits", "accuracy_vs_bytes", "comparisons", "dkd_curves", "dkd_heatmap", "layer_errors"):
        assert f"{figure}.png" in listing
    assert "index.html" in listing


# Every other slip, without Snakemake: tests/test_recipe.py
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("results/digits/seed=0/teacher/gpfq,bitz=4/metrics.json", "did you mean 'bits'"),
        ("results/digits/seed=0/teacher/metric.json", "did you mean 'metrics.json'"),
    ],
)
def test_a_mistyped_target_is_one_line(fresh, target, expected):
    done = fresh.run("--cores", "1", "--dry-run", target)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_a_file(fresh):
    done = fresh.run("--cores", "1", "--dry-run", "--config", "seeds=[one]")
    assert done.returncode != 0
    assert "error: --config: seeds.0: found 'one', expected integer" in done.stderr


def test_numbers_in_lists_and_mappings_on_the_command_line_are_numbers(fresh):
    arguments = ("--dry-run", "--config", "seeds=[1]", "student={epochs: 3}", "recipes=[hard]")
    done = fresh.run("--cores", "1", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Making digits seed 1: hard\n" in done.stdout


# Every other slip, without Snakemake: tests/test_config.py
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recipies": ["teacher"]}, "did you mean 'recipes'"),
        ({"teacher": {"epochs": "many"}}, "teacher.epochs"),
    ],
)
def test_a_wrong_config_is_one_line_with_its_file(fresh, changes, expected):
    fresh.configure(changes)
    done = fresh.run("--cores", "1", "--dry-run")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    assert "overlay.yaml" in lines[0]
    assert expected in lines[0]
