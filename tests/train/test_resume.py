"""A run that is killed and started again, and one that is run again, end with the same bytes."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from kdq.data import prepared as data_file
from kdq.distill.stage import distill
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.train import checkpoint as checkpoints
from kdq.train.history import MEASURED
from kdq.train.loop import Run
from kdq.train.stage import save, train_root
from kdq.workflow.job import running

HEADER = {"recipe": "teacher/mixup", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
MIXUP = {"concentration": 1.0, "labels": "mixed", "label_weight": 0.1, "distillation_weight": 1.0, "temperature": 1.0}
EVERYTHING = {"schedule": "onecycle", "averaging": 0.8, "flip": True, "cutout": 3}

# Trains as a job does, twice: a first process dies by SIGKILL in the middle of an epoch, a second goes on. Both are
# forks of one that has done the slow imports.
JOB = """
import json, os, signal, sys
from pathlib import Path
import torch
from kdq import models
from kdq.data.prepared import read
from kdq.train import loop
from kdq.distill.stage import distill
from kdq.train.stage import save

folder, keys, header, kill_at_step = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]), 13
torch.optim.SGD([torch.zeros(1, requires_grad=True)])
steps, step = 0, loop.Run._step

def counted(run, batch):
    global steps
    steps += 1
    if steps == kill_at_step:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, batch)

def job():
    teacher = models.load(folder / "teacher.safetensors")
    trained = distill(read(folder / "data.safetensors"), teacher, "kdq.distill.methods.mixup", keys, seed=0, threads=1,
                      checkpoint=folder / "checkpoint.pt", identity="run", log=print)
    save(folder / "model.safetensors", folder / "history.csv", trained, **header)

loop.Run._step = counted
child = os.fork()
if child == 0:
    job()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
assert torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"] == 2
assert not (folder / "model.safetensors").exists()
kill_at_step = None
job()
"""


@pytest.fixture
def train(few, build, tmp_path):
    """Train by mixup from a fixed teacher, as a job does, in a folder below ``tmp_path``; gives what was trained."""

    def train(keys, name="run", seed=0, log=print, checkpoint=None):
        folder = tmp_path / name
        return distill(
            few,
            build(seed=1),
            "kdq.distill.methods.mixup",
            {**MIXUP, **keys},
            seed=seed,
            threads=1,
            checkpoint=checkpoint or folder / "checkpoint.pt",
            identity="run",
            log=log,
        )

    return train


def saved(trained, folder) -> bytes:
    save(folder / "model.safetensors", folder / "history.csv", trained, **HEADER)
    return (folder / "model.safetensors").read_bytes()


def without_times(history):
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in history]


class TestKilled:
    @pytest.mark.slow
    def test_the_model_file_is_that_of_the_uninterrupted_run(self, few, build, train, training_keys, tmp_path, home):
        """Five steps an epoch; killed by SIGKILL at the third step of epoch 3, when two checkpoints were written."""
        keys = {**MIXUP, **training_keys(epochs=5, **EVERYTHING)}
        whole = saved(train(keys), tmp_path / "whole")
        folder = tmp_path / "killed"
        teacher = build(seed=1)
        architecture = {"architecture": "resnet18", "classes": 10, "channels": 1, "stem": "cifar", "width": 0.0625}
        data_file.write(folder / "data.safetensors", few)
        model_file.save(
            folder / "teacher.safetensors", teacher, {**architecture, "mean": [0.3], "std": [0.4]}, Codes(), **HEADER
        )

        command = [sys.executable, "-c", JOB, str(folder), json.dumps(keys), json.dumps(HEADER)]
        environment = {**os.environ, "PYTHONPATH": str(home)}
        job = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert job.returncode == 0, job.stderr
        assert "going on after epoch 2" in job.stdout
        assert (folder / "model.safetensors").read_bytes() == whole


class TestStopped:
    def test_it_says_where_it_goes_on_and_ends_with_the_same_bytes(
        self, train, training_keys, tmp_path, monkeypatch, capsys
    ):
        """SIGTERM at the third step of epoch 3, as SLURM sends it at a time limit and before a preemption."""
        keys, steps, step = training_keys(epochs=5, **EVERYTHING), itertools.count(1), Run._step
        whole = saved(train(keys, "whole"), tmp_path / "whole")

        def stopped(run, batch):
            if next(steps) == 13:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(run, batch)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "_step", stopped)
            with pytest.raises(SystemExit) as ended, running(tmp_path / "log"):
                train(keys)
        assert ended.value.code == 128 + signal.SIGTERM
        where = "stopped by SIGTERM in epoch 3 of 5; started again it goes on after epoch 2"
        assert capsys.readouterr().err == f"error: {where}; the log is {tmp_path / 'log'}\n"
        assert where in (tmp_path / "log").read_text()
        lines = []
        assert saved(train(keys, log=lines.append), tmp_path / "run") == whole
        assert lines[1].endswith("going on after epoch 2")


class TestResumed:
    @pytest.mark.parametrize(
        "changes",
        [
            EVERYTHING,
            {"select": "last", "momentum": 0.0},
            {"precision": "bfloat16", "averaging": 0.5},
            {**EVERYTHING, "resolution": 6, "resolution_share": 0.6, "decayed": "weights"},
        ],
        ids=["everything", "plain", "bfloat16", "resolution"],
    )
    def test_from_every_epoch_the_same_weights_and_history(self, train, training_keys, tmp_path, changes, monkeypatch):
        keys = training_keys(epochs=4, **changes)
        original = checkpoints.save

        def keep(path, state):
            original(path, state)
            shutil.copy(path, tmp_path / f"after-{state['epoch']}.pt")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", keep)
            whole = train(keys)
        for epoch in (1, 2, 3, 4):
            torch.manual_seed(99)  # whatever happened before in this process
            lines = []
            again = train(keys, checkpoint=tmp_path / f"after-{epoch}.pt", log=lines.append)
            assert any(f"going on after epoch {epoch}" in line for line in lines)
            expected = whole.network.state_dict()
            assert all(torch.equal(value, expected[key]) for key, value in again.network.state_dict().items())
            assert without_times(again.history) == without_times(whole.history)


class TestDeterminism:
    def test_the_seed_makes_the_bytes(self, train, training_keys, tmp_path):
        keys = training_keys(**EVERYTHING)
        first = saved(train(keys, "a"), tmp_path / "a")
        torch.manual_seed(99)
        assert saved(train(keys, "b"), tmp_path / "b") == first
        assert saved(train(keys, "c", seed=1), tmp_path / "c") != first

    def test_of_a_root_too(self, few, training_keys, tmp_path):
        keys = {**training_keys(epochs=1), "label_smoothing": 0.1}
        found = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            folder = tmp_path / name
            places = {"checkpoint": folder / "checkpoint.pt", "identity": "run", "log": print}
            found.append(saved(train_root(few, keys, seed=seed, threads=1, **places), folder))
        assert found[0] == found[1] != found[2]

    def test_the_test_part_is_never_read(self, few, training_keys, tmp_path):
        """Training goes through where there is none."""
        keys = {**training_keys(epochs=1), "label_smoothing": 0.0}
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": "run", "log": print}
        train_root(replace(few, test=None), keys, seed=0, threads=1, **places)
