"""Students side by side: the bytes of each alone, one forward pass of the teacher, and nobody waits for ever."""

import multiprocessing
import os
import signal
import time
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from kdq.data.prepared import write
from kdq.distill import side_by_side
from kdq.distill.methods import at, crd, kd, rkd
from kdq.distill.side_by_side import Students, claims, shares
from kdq.distill.stage import distill
from kdq.distill.teacher import SharedTeacher
from kdq.distill.turns import Turns
from kdq.errors import Stopped, UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.networks.resnet import TAPS
from kdq.train.history import MEASURED

METHODS = {"kd": kd, "at": at, "rkd": rkd, "crd": crd}
DEVICE = torch.device("cpu")
HEADER = {"recipe": "teacher", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


@pytest.fixture
def train(few, build, training_keys, tmp_path):
    """Train a student by the method of a name; with a shared teacher or alone."""
    parent = build(seed=1, width=0.125)

    def train(name, log=lambda line: None, teacher=None, place="alone", **changes):
        keys = {**training_keys(**changes), **METHODS[name].Parameters().model_dump()}
        folder = tmp_path / place / name
        folder.mkdir(parents=True, exist_ok=True)
        places = {"checkpoint": folder / "checkpoint.pt", "identity": name, "log": log}
        return distill(few, parent, METHODS[name].__name__, keys, seed=3, threads=1, teacher=teacher, **places)

    train.parent = parent
    return train


def together(train, names, **changes):
    """The students trained with one teacher, or what ended them, and the number of the teacher's forward passes."""
    turns = Turns()
    shared = SharedTeacher(train.parent, DEVICE, TAPS, turns.pass_turn)
    functions = [partial(train, name, teacher=shared, place="together", **changes) for name in names]
    return turns.run(functions), shared.computed


def equal(trained, expected):
    pairs = zip(trained.network.state_dict().values(), expected.network.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def test_every_student_has_the_bytes_that_it_has_alone_and_the_teacher_runs_once_a_batch(train):
    trained, computed = together(train, METHODS)
    assert computed == 2 * (160 // 32 - 1)  # in the first step of each epoch, which is counted, each computes its own
    for name, student in zip(METHODS, trained, strict=True):
        alone = train(name)
        assert equal(student, alone), name
        for column in alone.history[0].keys() - set(MEASURED):
            assert [row[column] for row in student.history] == [row[column] for row in alone.history]


def test_what_ends_one_student_leaves_the_others_alone(train, monkeypatch):
    def fails(self, batch, student, teacher):
        raise UserError("no")

    monkeypatch.setattr(at.AttentionTransfer, "losses", fails)
    (first, failed, last), _ = together(train, ["kd", "at", "rkd"])
    assert isinstance(failed, UserError)
    for name, student in (("kd", first), ("rkd", last)):
        assert equal(student, train(name))


def test_students_of_different_epochs_have_a_forward_pass_each(train):
    train("kd", place="together", epochs=1)  # its checkpoint is one epoch ahead, and of the same identity
    trained, computed = together(train, ["kd", "rkd"])
    assert computed > 2 * (160 // 32 - 1)
    assert equal(trained[1], train("rkd"))


def test_a_signal_ends_all_of_them_and_names_the_epoch_to_resume_from(train):
    turns, passes = Turns(), []

    class StoppedInTheSecondEpoch(SharedTeacher):
        def outputs(self, batch, taps=()):
            passes.append(batch)
            if len(passes) == 14:
                os.kill(os.getpid(), signal.SIGTERM)
                while not turns._end:
                    time.sleep(0.01)
            return super().outputs(batch, taps)

    def stop(number, frame):
        raise Stopped("stopped by SIGTERM")

    signal.signal(signal.SIGTERM, stop)
    shared = StoppedInTheSecondEpoch(train.parent, DEVICE, TAPS, turns.pass_turn)
    with pytest.raises(Stopped, match="^stopped by SIGTERM in epoch 2 of 2; started again it goes on after epoch 1$"):
        turns.run([partial(train, name, teacher=shared) for name in ("kd", "rkd")])
    lines = []
    assert equal(train("kd", lines.append), train("kd", place="whole"))
    assert any("after epoch 1" in line for line in lines)


@pytest.mark.parametrize(
    ("module", "expected"), [("kd", True), ("at", True), ("dml", False), ("mixup", False), ("absent", False)]
)
def test_which_students_can_share_a_teacher(module, expected):
    assert shares({"module": f"kdq.distill.methods.{module}"}) is expected


def hold(folder, held, free):
    with claims() as claim:
        claim(folder)
        held.set()
        free.wait()


def test_a_folder_is_claimed_by_one_process_and_free_when_that_ends(tmp_path):
    context = multiprocessing.get_context("fork")
    held, free = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, free))
    process.start()
    held.wait()
    with claims() as claim:
        assert not claim(tmp_path)
        process.kill()
        assert claim(tmp_path, wait=True)
    process.join()
    assert list(tmp_path.iterdir()) == []


class TestJob:
    """The jobs of the students of one teacher, one after the other, as their script runs them."""

    @pytest.fixture
    def students(self, few, build, tmp_path) -> Students:
        parent = build(seed=1, width=0.125)
        inputs = {"data": tmp_path / "data.safetensors", "parent": tmp_path / "teacher/model.safetensors"}
        write(inputs["data"], few)
        model_file.save(inputs["parent"], parent, parent.architecture, Codes(), **HEADER)
        return Students(inputs, tmp_path / "teacher", "code of kd", seed=3, threads=1)

    @pytest.fixture
    def job(self, training_keys):
        def job(name, **changes) -> dict:
            keys = {**training_keys(**changes), **METHODS[name].Parameters().model_dump()}
            return {"stage": name, "module": METHODS[name].__name__, "keys": keys, "code": f"code of {name}"}

        return job

    @staticmethod
    def run(students, job, siblings=None, is_planned=lambda job: True):
        """The trained student of a job, and its log; the file that is saved is empty."""
        lines = []
        (students.folder / job["stage"]).mkdir(exist_ok=True)
        with students.trained(job, siblings, is_planned, lines.append) as trained:
            (students.folder / job["stage"] / "model.safetensors").touch()
        return trained, lines

    def test_one_job_trains_all_and_the_others_find_nothing_left(self, students, job):
        jobs = [job(name) for name in ("kd", "at", "rkd")]
        alone = [self.run(students, job)[0] for job in jobs]
        for each in jobs:
            (students.folder / each["stage"] / "model.safetensors").unlink()
        logs = []
        for first, expected in zip(jobs, alone, strict=True):
            siblings = {"students": 3, "jobs": [other for other in jobs if other is not first]}
            trained, lines = self.run(students, first, siblings)
            assert equal(trained, expected)
            logs.append(lines)
        assert "3 students side by side: kd, at, rkd" in logs[0]
        assert not any("side by side" in line for lines in logs[1:] for line in lines)
        assert [sum("epoch   2/2  " in line for line in lines) for lines in logs] == [4, 1, 1]
        assert not list(students.folder.glob("*/checkpoint.pt"))

    def test_what_fails_is_logged_and_fails_in_its_own_job(self, students, job, monkeypatch):
        def fails(self, batch, student, teacher):
            raise UserError("no")

        monkeypatch.setattr(at.AttentionTransfer, "losses", fails)
        lines = self.run(students, job("kd"), {"students": 2, "jobs": [job("at")]})[1]
        assert "at: UserError: no" in lines
        with pytest.raises(UserError, match="^no$"):
            self.run(students, job("at"))

    def test_a_folder_in_the_place_of_a_checkpoint_stops_its_own_student_alone(self, students, job):
        (students.folder / "at/checkpoint.pt").mkdir(parents=True)
        siblings = {"students": 3, "jobs": [job("at"), job("rkd")]}
        assert "2 students side by side: kd, rkd" in self.run(students, job("kd"), siblings)[1]
        with pytest.raises(UserError, match="at/checkpoint.pt: found a folder, expected a file"):
            self.run(students, job("at"))

    def test_students_that_others_train_or_that_are_done_are_left_out(self, students, job):
        names = ["at", "rkd", "crd"]
        (students.folder / "at").mkdir()
        (students.folder / "at/model.safetensors").touch()
        siblings = {"students": 9, "jobs": [job(name) for name in names]}
        with claims() as claim:  # a lock belongs to the opened folder: the same process can't claim it twice either
            (students.folder / "crd").mkdir()
            assert claim(students.folder / "crd")
            lines = self.run(students, job("kd"), siblings, lambda job: job["stage"] != "rkd")[1]
        assert not any("side by side" in line for line in lines)
        assert not (students.folder / "rkd").exists(), "its code changed since it was planned"

    def test_no_more_than_it_may(self, students, job, monkeypatch):
        groups = []
        monkeypatch.setattr(Students, "_train_side_by_side", lambda self, group, log: groups.append(group))
        self.run(students, job("kd", epochs=1), {"students": 2, "jobs": [job("at"), job("rkd")]})
        assert [[each["stage"] for each in group] for group in groups] == [["kd", "at"]]

    def test_a_job_waits_for_another_that_trains_its_student(self, students, job, monkeypatch):
        """It trains others meanwhile, and never its own."""
        waited = []

        def claims_of_others(folder, wait=False):
            waited.append((folder.name, wait))
            return wait or folder.name != "kd"

        monkeypatch.setattr(side_by_side, "claims", lambda: nullcontext(claims_of_others))
        lines = self.run(students, job("kd", epochs=1), {"students": 2, "jobs": [job("at"), job("rkd")]})[1]
        assert "2 students side by side: at, rkd" in lines
        assert waited == [("kd", False), ("at", False), ("rkd", False), ("kd", True)]
