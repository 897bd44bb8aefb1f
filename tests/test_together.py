"""Which quantized cells one job makes together: alike but for their bits, not made, not tried."""

from pathlib import Path

import pytest

from kdq.study.config import read_study
from kdq.workflow.student_groups import missing_students, to_make_together

RECIPES = [
    "hard/gpfq,bits={2..4}",
    "hard/rtn,bits={3,8},images=64",
    "hard/gpfq",
    "teacher/gpfq,bits={2,4}/kd/rtn,bits=2",
    "teacher/rtn,bits=5",
    "hard/gpfq,bits={2,3},order=greedy",
]


@pytest.fixture
def sets(home, tmp_path, monkeypatch):
    """(seed, parent, stage, bits) of every set of the study above, in a folder in which some files are there."""
    monkeypatch.chdir(tmp_path)
    study = read_study({"datasets": ["digits"], "seeds": [0, 1], "recipes": RECIPES}, home / "kdq")

    def sets(*files):
        for file in files:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).touch()
        return [(cells.seed, cells.parent, cells.stage, list(cells.stages)) for cells in to_make_together(study)]

    return sets


def test_cells_that_the_bits_tell_apart_are_together_and_so_are_what_others_are_built_on(sets):
    expected = [("hard", "gpfq", [2, 3, 4]), ("hard", "rtn,images=64", [3, 8]), ("teacher", "gpfq", [2, 4])]
    assert sets() == [(seed, *of_seed) for seed in (0, 1) for of_seed in expected]


@pytest.mark.parametrize("file", ["results/{}/model.safetensors", "logs/quantize/{}.log"])
def test_a_cell_that_is_made_or_was_tried_is_left_out(sets, file):
    found = sets(*(file.format(f"digits/seed=1/{cell}") for cell in ("hard/gpfq,bits=3", "hard/rtn,bits=8,images=64")))
    assert [of_seed for seed, *of_seed in found if seed == 1] == [["hard", "gpfq", [2, 4]], ["teacher", "gpfq", [2, 4]]]
    assert len([seed for seed, *_ in found if seed == 0]) == 3


def test_each_has_a_file_and_a_log_of_its_own(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = read_study({"datasets": ["digits"], "seeds": [0], "recipes": RECIPES[1:2]}, home / "kdq")
    (cells,) = to_make_together(study)
    assert cells.models == {
        f"bits{bits}": f"results/digits/seed=0/hard/rtn,bits={bits},images=64/model.safetensors" for bits in (3, 8)
    }
    assert cells.logs == [
        "logs/quantize/digits/seed=0/hard/rtn,images=64,bits=3+8.log",
        *(f"logs/quantize/digits/seed=0/hard/rtn,bits={bits},images=64.log" for bits in (3, 8)),
    ]


def test_so_many_at_most(sets, monkeypatch):
    monkeypatch.setattr("kdq.workflow.student_groups.MOST", 2)
    assert sets() == [(0, "hard", "gpfq", [2, 3, 4]), (0, "hard", "rtn,images=64", [3, 8])]


def test_students_that_hear_the_same_from_one_teacher(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipes = [
        "teacher/{kd,at}",
        "teacher/kd/gpfq,bits=2",
        "teacher/kd,crop=2",
        "hard/dml",
        "teacher/kd,teacher_cache=true",
    ]
    study = read_study({"datasets": ["digits"], "seeds": [0, 1], "recipes": recipes}, home / "kdq")
    Path("results/digits/seed=1/teacher/at").mkdir(parents=True)
    Path("results/digits/seed=1/teacher/at/model.safetensors").touch()
    found = [(key[1], key[2], stages) for key, stages in missing_students(study).items()]
    assert found == [
        (0, "teacher", ["kd", "at"]),
        (0, "teacher", ["kd,crop=2"]),
        (0, "hard", ["dml"]),
        (1, "teacher", ["kd"]),
        (1, "teacher", ["kd,crop=2"]),
        (1, "hard", ["dml"]),
    ]
