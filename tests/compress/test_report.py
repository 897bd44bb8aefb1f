"""The report: its numbers are those it is given, and what was not measured is said."""

import csv
import io
import json
from dataclasses import replace

import pytest

from kdq.compress.candidates import Candidate, recipe_of
from kdq.compress.drops import Drop
from kdq.compress.report import Report, candidates_csv, markdown, summary

TIMES = {"float": {"median": 2.0}, "model": {"median": 0.5}}
RATIOS = {"float": {"1": {"median": 4.0}, "128": {"median": 3.5}}}
LATENCY = {
    "processor": {"name": "Some CPU"},
    "threads": 1,
    "load": 0.25,
    "busy": "",
    "runtimes": {"onnxruntime": {"milliseconds": TIMES, "speedups": RATIOS}, "torch": {"milliseconds": {"float": 1}}},
}


def candidate(budget: float, points: float) -> Candidate:
    drop = Drop(images=500, top1=0.9 - points / 100, points=points, low=points - 1, high=points + 1, error=0.5)
    return Candidate(recipe_of("qronos", budget, "resnet18"), budget, round(1000 * budget), drop, points <= 1)


@pytest.fixture
def report() -> Report:
    tried = [candidate(3, 0.2), candidate(2.5, 0.8), candidate(2, 4.0)]
    return Report(
        asked={"data": "photos", "model": "vit", "max_drop": 1.0, "sure": 0.5},
        dataset="folder",
        split_seed=0,
        trained_on={},
        candidates=tried,
        chosen=tried[1],
        drop=Drop(images=501, top1=0.88, points=1.5, low=0.5, high=2.5, error=0.5),
        float_top1=0.895,
        chosen_on="500 of 1,001 test images",
        reported_on="501 of 1,001 test images",
        onnx_bytes=2_000,
        float_onnx_bytes=32_000,
        layers=[{"name": "conv1", "weights": 1234, "bits": 8}, {"name": "head", "weights": 9}],
        latency=LATENCY,
        command="snakemake this",
    )


def test_every_part_of_the_result_is_there(report):
    text = markdown(report)
    for line in (
        "# vit on photos, within 1 point",
        "`teacher/qronos,activations=8,budget=2.5`: 2,000 bytes, 16.0 times smaller than the float network, for 1.50 "
        "points, 95% interval 0.50 to 2.50, of accuracy.",
        "| float | 32,000 | 89.50% | |",
        "| compressed | 2,000 | 88.00% | 1.50 points, 95% interval 0.50 to 2.50 |",
        "Accuracy on 501 of 1,001 test images, which had no part in the choice.",
        "| ONNX Runtime | 2 | 0.5 | 4.00 | 3.50 |",
        "| `teacher/qronos,activations=8,budget=2` | 2,000 | 4.00 points, 95% interval 3.00 to 5.00 | too much |",
        "| `teacher/qronos,activations=8,budget=2.5` | 2,500 | 0.80 points, 95% interval -0.20 to 1.80 | **chosen** |",
        "| conv1 | 1,234 | 8 |",
        "| head | 9 |  |",
        "    snakemake this",
    ):
        assert line in text.splitlines()
    assert "One image is worth 0.2 points, and the chance that the true drop is above 1 point is 34%." in text


def test_a_busy_machine_is_said(report):
    text = markdown(replace(report, latency={"busy": "too busy: onnxruntime", "runtimes": {}}))
    assert "Not measured: too busy: onnxruntime. Run the command again." in text


def test_the_summary_has_bytes_drop_and_times(report):
    small, *_ = lines = summary(report)
    assert small.endswith("32,000 bytes, 89.50% of 501 of 1,001 test images")
    assert lines[-1] == "ONNX Runtime: 0.5 ms against 2 at batch 1"


def test_all_facts_are_plain_values(report):
    facts = json.loads(json.dumps(report.facts))
    assert facts["risk"] == pytest.approx(0.3446, abs=1e-4)
    assert facts["chosen"]["drop_points"] == 0.8
    assert [row["budget"] for row in facts["candidates"]] == [3, 2.5, 2]


def test_candidates_are_a_table_by_budget(report):
    rows = list(csv.DictReader(io.StringIO(candidates_csv(report.candidates))))
    assert [row["budget"] for row in rows] == ["2", "2.5", "3"]
    assert [row["within"] for row in rows] == ["False", "True", "True"]
    assert rows[0]["drop_points"] == "4.0" and float(rows[0]["top1"]) == pytest.approx(0.86)
