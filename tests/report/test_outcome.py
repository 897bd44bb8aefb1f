"""The end of a run: what a study came to, from its summary."""

import pandas as pd

from kdq.report import outcome
from kdq.report.tables import deployment, summary
from tests.report.test_deployment import frame

COLUMNS = ("recipe", "network", "quantizer", "bits", "activation_bits", "validation_top1_mean", "test_top1_mean")
ROWS = [
    ("teacher", "teacher", "none", 32, 32, 0.99, 0.98, 6000),
    ("teacher/kd", "teacher/kd", "none", 32, 32, 0.95, 0.94, 700),
    ("teacher/at", "teacher/at", "none", 32, 32, 0.94, 0.96, 700),  # better on test, which chooses nothing
    ("teacher/kd/rtn,bits=4", "teacher/kd", "rtn", 4, 32, 0.96, 0.935, 100),
    ("teacher/at/rtn,bits=4", "teacher/at", "rtn", 4, 32, 0.92, 0.945, 110),
    ("teacher/kd/rtn,bits=2", "teacher/kd", "rtn", 2, 32, 0.5, 0.44, 60),
    ("teacher/kd/rtn,activations=8,bits=4", "teacher/kd", "rtn", 4, 8, 0.1, 0.1, 130),
    ("teacher/kd/gpfq,bits=4", "teacher/kd", "gpfq", 4, 32, 0.9, 0.94, 120),
]


def kind(recipe: str) -> str:
    return ("root", "distill", "quantize")[recipe.count("/")]


def study(rows=ROWS, dataset="digits", seeds=1) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[*COLUMNS, "file_bytes_mean"])
    return table.assign(dataset=dataset, seeds=seeds, kind=table.recipe.map(kind))


def test_the_front_is_that_of_validation_and_test_is_only_told():
    heading, *lines = outcome.of_dataset(study())
    assert heading.split() == [
        *("digits:", "best", "for", "their", "size", "(one", "seed)"),
        *("validation", "test", "bytes"),
    ]
    assert [line.split() for line in lines[:3]] == [
        ["teacher", "99.00%", "98.00%", "6,000"],
        ["teacher/kd/rtn,bits=4", "96.00%", "93.50%", "100"],
        ["teacher/kd/rtn,bits=2", "50.00%", "44.00%", "60"],
    ]
    assert lines[3] == "best distilled student by validation: teacher/kd, test 94.00% (teacher 98.00%)"
    assert all(len(line) <= 80 for line in [heading, *lines[:3]])


def test_the_drop_is_a_mean_over_networks_at_each_number_of_bits():
    *_, gpfq, rtn = outcome.of_dataset(study())
    assert gpfq == "gpfq, points of test accuracy by bits: +0.0 at 4"
    assert rtn == "rtn, points of test accuracy by bits: -1.0 at 4, -50.0 at 2"  # -0.5 and -1.5; without activations


def test_budgets_that_are_met_to_less_than_a_tenth_are_one_number_of_bits():
    met = {"teacher/kd": 2.4983, "teacher/at": 2.4989}
    rows = [(f"{name}/gptq,budget=2.5", name, "gptq", bits, 32, 0.9, 0.9, 80) for name, bits in met.items()]
    *_, gptq, _ = outcome.of_dataset(study([*ROWS, *rows]))
    assert gptq == "gptq, points of test accuracy by bits: -5.0 at 2.5"


def test_a_study_without_students_or_codes_says_less():
    assert len(outcome.of_dataset(study(ROWS[:1], seeds=5))) == 2
    assert "(5 seeds)" in outcome.of_dataset(study(ROWS[:1], seeds=5))[0]


def test_of_a_long_front_the_most_accurate_are_shown():
    rows = [(f"hard,epochs={n}", f"hard,epochs={n}", "none", 32, 32, 0.5 + n / 100, 0.5, 100 + n) for n in range(12)]
    heading, *lines = outcome.of_dataset(study(rows))
    assert "best for their size, 5 of 12" in heading and len(lines) == 5 and "61.00%" in lines[0]


def test_the_folder_tells_where_to_look(tmp_path, monkeypatch):
    assert outcome.lines(tmp_path) == []
    monkeypatch.setattr(summary.SCHEMA.__class__, "read", lambda schema, path: TABLES[schema.name](path))
    TABLES = {"summary": lambda path: study(), "deployment": lambda path: frame()}
    (tmp_path / "summary.csv").touch()
    assert outcome.lines(tmp_path)[-1] == f"tables and figures: {tmp_path}"
    assert not any("quickest" in line for line in outcome.lines(tmp_path))
    (tmp_path / "deployment.csv").touch()
    (tmp_path / "index.html").touch()
    *_, quickest, page = outcome.lines(tmp_path)
    assert "quickest within a point" in quickest and page == f"page: {tmp_path}/index.html"


def test_what_can_not_be_read_is_left_out(tmp_path):
    (tmp_path / "summary.csv").write_text("dataset,recipe\n")
    assert outcome.lines(tmp_path) == []
    assert deployment.SCHEMA.name == "deployment"
