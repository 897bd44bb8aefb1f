"""Students side by side: the bytes of each alone, one forward pass of the teacher, and nobody waits for ever."""

import multiprocessing
import os
import signal
import time
from functools import partial

import pytest
import torch

from kdq.distill import side_by_side as beside
from kdq.distill.methods import at, crd, kd, rkd
from kdq.distill.shared_teacher import SharedTeacher, Turns
from kdq.distill.stage import distill
from kdq.errors import Stopped, UserError
from kdq.models.resnet import TAPS

METHODS = {"kd": kd, "at": at, "rkd": rkd, "crd": crd}
DEVICE = torch.device("cpu")


@pytest.fixture
def train(few, build, training_keys, tmp_path):
    """Train a student by the method of a name; with a shared teacher or alone."""
    teacher = build(seed=1, width=0.125)

    def train(name, log=lambda line: None, teacher_forward=None, place="alone", **changes):
        keys = {**training_keys(**changes), **METHODS[name].Parameters().model_dump()}
        folder = tmp_path / place / name
        folder.mkdir(parents=True, exist_ok=True)
        return distill(
            few,
            teacher,
            METHODS[name].__name__,
            keys,
            seed=3,
            threads=1,
            checkpoint=folder / "checkpoint.pt",
            identity=name,
            log=log,
            teacher_forward=teacher_forward,
        )

    train.teacher = teacher
    return train


def together(train, names, **changes):
    """What trainings with one teacher end with, and how often it was asked for anew."""
    turns = Turns()
    shared = SharedTeacher(train.teacher.eval(), TAPS, turns)
    functions = [partial(train, name, teacher_forward=shared, place="together", **changes) for name in names]
    return turns.run(functions), shared.computed


def shared_alone(train):
    turns = Turns()
    turns.pass_on = lambda: None
    return SharedTeacher(train.teacher.eval(), TAPS, turns)


def equal(one, other):
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(mine.equal(its) for mine, its in pairs)


def test_every_student_has_the_bytes_that_it_has_alone_and_the_teacher_runs_once_a_batch(train):
    # folded in both cases: what is shared is the forward pass of the very same network
    trained, computed = together(train, METHODS)
    batches = 2 * (160 // 32)
    assert computed == batches
    alone = [together(train, [name])[0][0] for name in METHODS]
    for name, one, other in zip(METHODS, trained, alone, strict=True):
        assert equal(one, other), name
        history = [{key: row[key] for key in row if "loss" in key or "accuracy" in key} for row in one.history]
        assert history == [{key: row[key] for key in history[0]} for row in other.history]


def test_what_ends_one_student_leaves_the_others_alone(train, monkeypatch):
    def fails(self, batch, student, teacher):
        raise UserError("no")

    monkeypatch.setattr(at.AttentionTransfer, "losses", fails)
    (first, failed, last), _ = together(train, ["kd", "at", "rkd"])
    assert isinstance(failed, UserError)
    monkeypatch.undo()
    for name, one in (("kd", first), ("rkd", last)):
        assert equal(one, together(train, [name])[0][0])


def test_students_of_different_epochs_ask_each_for_itself(train):
    train("kd", place="together", epochs=1)  # its checkpoint is one epoch ahead, and of the same identity
    trained, computed = together(train, ["kd", "rkd"])
    assert computed > 2 * (160 // 32)
    assert equal(trained[1], together(train, ["rkd"])[0][0])


def test_a_signal_ends_all_of_them_and_says_where_they_go_on(train):
    turns, asked = Turns(), []
    shared = SharedTeacher(train.teacher.eval(), TAPS, turns)

    def stop(number, frame):
        raise Stopped("stopped by SIGTERM")

    def stopped_in_the_second_epoch(images, taps=()):
        asked.append(images)
        if len(asked) == 14:
            os.kill(os.getpid(), signal.SIGTERM)
            while not turns._end:
                time.sleep(0.01)
        return shared(images, taps)

    signal.signal(signal.SIGTERM, stop)
    functions = [partial(train, name, teacher_forward=stopped_in_the_second_epoch) for name in ("kd", "rkd")]
    with pytest.raises(Stopped, match="^stopped by SIGTERM in epoch 2 of 2; started again it goes on after epoch 1$"):
        turns.run(functions)
    lines = []
    assert equal(train("kd", lines.append, shared_alone(train)), together(train, ["kd"])[0][0])
    assert any("going on after epoch 1" in line for line in lines)


@pytest.mark.parametrize(("module", "expected"), [("kd", True), ("at", True), ("dml", False), ("mixup", False)])
def test_who_can_share_a_teacher(module, expected):
    assert beside.shares({"module": f"kdq.distill.methods.{module}"}) is expected


def hold(folder, held, free):
    with beside.claims() as claim:
        claim(folder)
        held.set()
        free.wait()


def test_a_folder_is_claimed_by_one_process_and_free_when_that_ends(tmp_path):
    context = multiprocessing.get_context("fork")
    held, free = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, free))
    process.start()
    held.wait()
    with beside.claims() as claim:
        assert not claim(tmp_path)
        process.kill()
        assert claim(tmp_path, wait=True)
    process.join()


def test_a_job_takes_as_many_as_it_may_of_those_that_nobody_trains(train, tmp_path):
    jobs = [{"stage": name, "module": METHODS[name].__name__} for name in METHODS]
    parent, begun = tmp_path / "parent", []
    (parent / "at").mkdir(parents=True)
    (parent / "at/model.safetensors").touch()

    def start(job, folder, log, teacher_forward):
        begun.append(job["stage"])
        log("begun")

    lines = []
    settings = parent, train.teacher, DEVICE, start, lines.append
    beside.train_with([(jobs[0], parent / "kd")], {"students": 2, "jobs": jobs[1:]}, *settings)
    assert begun == ["kd", "rkd"]
    assert lines == ["2 students side by side: kd, rkd", "kd: begun", "rkd: begun"]
    begun.clear()
    beside.train_with([], {"students": 1, "jobs": jobs[2:]}, *settings)  # alone it is its own job's work
    assert begun == []
