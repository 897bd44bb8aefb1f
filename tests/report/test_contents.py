from pathlib import Path

import pytest

from kdq.report.contents import Contents
from kdq.report.figures import FIGURES
from kdq.report.jobs import TABLES
from kdq.study.config import read_study

PACKAGE = Path(__file__).parents[2] / "kdq"


def contents(*recipes, latency=False, **stages):
    values = {"datasets": ["digits"], "seeds": [0], "recipes": list(recipes), "stages": stages, "latency": latency}
    return Contents(read_study(values, PACKAGE))


def test_the_table_has_the_ancestors_too():
    assert contents("teacher/kd/rtn,bits=2").recipes == ["teacher", "teacher/kd", "teacher/kd/rtn,bits=2"]


def test_tables_and_figures_name_what_a_study_has():
    study = contents("teacher")
    for declared in (*FIGURES.values(), *TABLES.values()):
        assert all(hasattr(study, name) for name in (declared.shows, *declared.parameters))
    assert all(hasattr(study, table.cells) for table in TABLES.values())


def test_kinds_are_those_of_the_stages_in_use():
    assert contents("teacher/kd/rtn,bits=2").kinds == {"kd": "distill", "rtn": "quantize", "teacher": "root"}


def test_a_figure_with_nothing_to_show_is_no_target():
    assert contents("teacher").figures == ["accuracy_vs_bytes", "training_curves"]
    assert contents("teacher", "hard").figures == ["accuracy_vs_bytes", "comparisons", "training_curves"]
    found = contents("teacher/dkd").figures  # one point is no grid
    assert found == ["accuracy_vs_bytes", "comparisons", "training_curves"]
    grid = ("teacher/dkd,alpha={1,2}/rtn", "teacher/dkd,alpha={1,2}")
    further = {"sequences", "sensitivity", "accuracy_vs_milliseconds", "techniques"}
    assert set(contents(*grid).figures) == set(FIGURES) - further
    pruned = "teacher/dkd,alpha=1/rtn,activations=8,budget=3/qat/magnitude"
    every = contents(*grid, pruned, latency=True)
    assert set(every.figures) == set(FIGURES)


def test_files_are_timed_if_the_study_has_the_key_and_they_have_an_onnx_form():
    recipes = ("teacher/rtn,bits={4,8},levels=paper", "hard/ntklc")
    assert contents(*recipes).timed == []
    expected = ["hard", "hard/ntklc", "teacher", "teacher/rtn,bits=4,levels=paper"]
    assert contents(*recipes, latency=True).timed == expected


def test_every_training_has_a_history_and_a_network_from_outside_has_none():
    found = contents("teacher/kd/rtn/qat", "hard/gpfq", teacher={"source": "transformers", "folder": "somewhere"})
    assert found.with_history == ["hard", "teacher/kd", "teacher/kd/rtn/qat"]


def test_retrained_models_are_quantized_ones_but_for_the_errors_of_layers():
    found = contents("teacher/kd/rtn/qat")
    assert found.quantized == ["teacher/kd/rtn", "teacher/kd/rtn/qat"]
    assert found.with_layer_errors == ["teacher/kd/rtn"] and found.quantized_networks == ["teacher/kd"]
    assert contents("hard/ntklc").quantized == ["hard/ntklc"] and not contents("hard/ntklc").with_layer_errors


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("teacher/kd/rtn", False),
        ("teacher/rtn,bits=8/rtn,bits=2", False),
        ("teacher/rtn/kd", True),
        ("teacher/rtn/kd/rtn", True),
        ("teacher/rtn/qat", True),
        ("teacher/kd/ntklc", False),
    ],
)
def test_orders_are_compared_where_training_follows_a_quantization(recipe, expected):
    assert bool(contents(recipe).sequences) == expected


def test_the_epochs_of_a_network_are_its_own():
    found = contents("teacher,epochs=7/rtn/kd,epochs=5/rtn/qat,epochs=3/qkd,epochs=2").epochs
    assert list(found.values()) == [7, 7, 5, 5, 8, 10]
    pinned = {"source": "transformers", "folder": "somewhere"}
    assert contents("teacher/rtn/qat,epochs=3", teacher=pinned).epochs["teacher/rtn/qat,epochs=3"] == 3


def test_of_many_retrained_models_no_training_curve_is_drawn():
    assert len(contents("hard/rtn/qat,epochs={1..8}").trained) == 9
    assert contents("hard/rtn/qat,epochs={1..9}").trained == ["hard"]


def test_what_is_measured_is_asked_for_by_budgets():
    found = contents(
        "teacher/gpfq,bits={2,3}",
        "hard/gpfq,budget={2.5,3}",
        "hard/rtn,budget=3,images=64/kd/rtn",
        "hard/rtn,order=iterative",
    )
    assert found.measured == ["hard/gpfq", "hard/rtn,images=64"]
    assert "sensitivity" in found.figures and "sensitivity" not in contents("teacher/gpfq,bits={2,3}").figures
    assert contents("hard/gpfq", gpfq={"budget": 3.0}).measured == ["hard/gpfq"]


def test_the_figure_of_comparisons_is_left_out_where_it_would_be_too_long():
    assert len(contents("teacher/kd,temperature={1..60}").students) == 60
    assert "comparisons" not in contents("teacher/kd,temperature={1..61}").figures


def test_the_dkd_grid_takes_defaults_and_leaves_out_cells_that_differ_otherwise():
    grid = contents("teacher/dkd,alpha={1,2}", "teacher/dkd,temperature=2", "hard/dkd", dkd={"beta": 3.0}).dkd_grid
    assert grid == {"teacher/dkd,alpha=1": [1.0, 3.0], "teacher/dkd,alpha=2": [2.0, 3.0]}


def test_of_a_large_grid_the_training_curves_keep_what_is_built_on():
    found = contents("teacher/dkd,alpha={1,2},beta={4,8}", "teacher/dkd,alpha=1,beta=4/rtn")
    assert found.trained == ["teacher", "teacher/dkd,alpha=1,beta=4"]
    assert found.quantized_networks == ["teacher/dkd,alpha=1,beta=4"]
