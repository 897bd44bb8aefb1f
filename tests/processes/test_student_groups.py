"""Which students of one teacher one job trains side by side."""

from pathlib import Path

from kdq.study.config import read_study
from kdq.workflow.student_groups import missing_students


def test_students_that_share_a_forward_pass_are_one_group(home, tmp_path, monkeypatch):
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
