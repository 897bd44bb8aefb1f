"""Students of one teacher that are trained side by side: each is its own job's, and has the bytes that it has alone."""

import shutil

FOLDER = "results/digits/seed=0/teacher"
SMALL = {"teacher": {"epochs": 1, "width": 0.0625}, "student": {"epochs": 2, "width": 0.0625}}
METHODS = ("kd", "at", "rkd")

FAILING = '''"""A method that is lost at once."""

from kdq.distill.method import Method
from kdq.recipe.vocabulary import Base


class Parameters(Base):
    pass


class Failing(Method):
    def losses(self, batch, student, teacher):
        return {"nothing": self.label_loss(batch, student) / 0}
'''


def model(fresh, method):
    return fresh.folder / FOLDER / method / "model.safetensors"


def log(fresh, method):
    return (fresh.folder / f"logs/distill/digits/seed=0/teacher/{method}.log").read_text()


def test_they_are_those_made_alone(fresh):
    fresh.configure({"recipes": [f"teacher/{{{','.join(METHODS)}}}"], **SMALL})
    done = fresh.run("--cores", "1", *(f"{FOLDER}/{method}/model.safetensors" for method in METHODS))
    assert done.returncode == 0, done.stderr
    assert not any("side by side" in log(fresh, method) for method in METHODS), "what is asked for is made alone"
    alone = {method: model(fresh, method).read_bytes() for method in METHODS}
    for method in METHODS:
        shutil.rmtree(model(fresh, method).parent)
    done = fresh.run("--cores", "1")
    assert done.returncode == 0, done.stderr
    leaders = [method for method in METHODS if "3 students side by side" in log(fresh, method)]
    assert len(leaders) == 1
    assert not any("2 students side by side" in log(fresh, method) for method in METHODS), "nothing is left for others"
    for method in METHODS:
        assert model(fresh, method).read_bytes() == alone[method]
        assert "going on after epoch 2" in log(fresh, method)
        assert log(fresh, method).count(" epoch   2/2  ") == (4 if method in leaders else 1), "its own log has all"
        assert not model(fresh, method).with_name("checkpoint.pt").exists()
    assert fresh.plan() == set()


def test_one_that_fails_fails_in_its_own_job(fresh):
    (fresh.folder / "kdq/distill/methods/failing.py").write_text(FAILING)
    fresh.configure({"recipes": ["teacher/{kd,failing,at}"], **SMALL})
    done = fresh.run("--cores", "1", "--keep-going")
    assert done.returncode != 0 and "the loss term 'nothing' is" in done.stderr
    assert [model(fresh, method).exists() for method in ("kd", "failing", "at")] == [True, False, True]
    assert "the loss term 'nothing' is" in log(fresh, "failing")
