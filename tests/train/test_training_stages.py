"""The stages that train: the same start for every method of a seed, and the files that they leave."""

import csv

import pytest
import torch

from kdq import models
from kdq.data.batches import TrainingBatches
from kdq.distill.methods import kd, mixup
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.train import stage
from kdq.train.loop import fit
from kdq.train.settings import Training
from kdq.train.stage import save, train_root

KD = {"temperature": 4.0, "label_weight": 0.1, "distillation_weight": 0.9, "loss": "kl"}
DKD = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "label_weight": 1.0, "warmup": 0.0833}
MIXUP = {"concentration": 1.0, "labels": "none", "label_weight": 0.1, "distillation_weight": 1.0, "temperature": 1.0}
OWN = {"kd": KD, "dkd": DKD, "mixup": MIXUP}
HEADER = {"recipe": "hard", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


@pytest.fixture
def run(few, build, training_keys, tmp_path):
    """Train by a stage's name, with changed keys."""

    def run(name, seed=0, log=print, **changes):
        places = {"checkpoint": tmp_path / f"{name}.pt", "identity": name, "log": log}
        keys = training_keys(**changes)
        if name == "hard":
            return train_root(few, {**keys, "label_smoothing": 0.0}, seed=seed, threads=1, **places)
        module = f"kdq.distill.methods.{name}"
        return distill(few, build(seed=1), module, {**keys, **OWN[name]}, seed=seed, threads=1, **places)

    return run


class TestStart:
    def test_every_method_of_a_seed_starts_from_the_same_weights(self, run, monkeypatch):
        monkeypatch.setattr(stage, "fit", lambda *arguments, **places: [])
        starts = [run(name).network.state_dict() for name in ("hard", "kd", "dkd", "mixup")]
        for start in starts[1:]:
            assert all(torch.equal(value, starts[0][key]) for key, value in start.items())
        other = run("hard", seed=1).network.state_dict()
        assert not torch.equal(other["conv1.weight"], starts[0]["conv1.weight"])

    def test_a_method_with_a_view_sees_the_same_crops_as_one_without(self, few, build, tmp_path, training_keys):
        seen = {"kd": [], "mixup": []}

        class PlainSpy(kd.KD):
            def view(self, batch, generator):
                seen["kd"].append(batch.images)
                return super().view(batch, generator)

        class MixupSpy(mixup.Mixup):
            def view(self, batch, generator):
                seen["mixup"].append(batch.images)
                return super().view(batch, generator)

        settings = Training(**{key: training_keys()[key] for key in Training.model_fields})
        for name, method in (("kd", PlainSpy(kd.Parameters())), ("mixup", MixupSpy(mixup.Parameters()))):
            task = Distillation(
                build(), Teacher(build(seed=1)), method, few.train.images[:2].float() / 255, few.train.labels, seed=0
            )
            augmented = {"batch_size": 32, "crop": 1, "flip": True, "cutout": 2, "fill": few.mean}
            batches = TrainingBatches(few.train.images, few.train.labels, **augmented)
            places = {"checkpoint": tmp_path / name, "identity": name, "log": print}
            fit(task, batches, few.validation, settings, seed=0, **places)
        assert len(seen["kd"]) == len(seen["mixup"]) == 10
        assert all(torch.equal(*pair) for pair in zip(seen["kd"], seen["mixup"], strict=True))


class TestLearning:
    def test_digits_are_learnt(self, run):
        """Far above chance, which is 0.1, within a few epochs."""
        history = run("hard", epochs=12, width=0.125, schedule="onecycle").history
        assert history[-1]["loss_cross_entropy"] < 0.8 * history[0]["loss_cross_entropy"]
        assert max(row["validation_accuracy"] for row in history) > 0.3

    @pytest.mark.parametrize("name", ["kd", "dkd", "mixup"])
    def test_a_student_comes_closer_to_its_teacher(self, run, name):
        history = run(name, epochs=4, learning_rate=0.05).history
        columns = [key for key in history[0] if key.startswith("loss_") and key != "loss_cross_entropy"]
        assert columns
        if name != "dkd":  # there the match grows with the epochs
            assert sum(history[-1][key] for key in columns) < sum(history[0][key] for key in columns)


class TestFiles:
    def test_history_has_named_columns(self, run, tmp_path):
        save(tmp_path / "model", tmp_path / "history.csv", run("kd"), **HEADER)
        with open(tmp_path / "history.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == [
            *("epoch", "learning_rate", "loss_cross_entropy", "loss_distillation", "training_accuracy"),
            *("validation_accuracy", "training_flops"),
            *("images_per_second", "processor_seconds", "energy_joules", "peak_memory_bytes"),
        ]
        assert [row["epoch"] for row in rows] == ["1", "2"]

    def test_where_there_is_a_model_there_is_its_history(self, run, tmp_path, monkeypatch):
        trained = run("hard", epochs=1)

        def crash(*arguments, **header):
            raise OSError("disk full")

        monkeypatch.setattr(stage.model_file, "save", crash)
        with pytest.raises(OSError):
            save(tmp_path / "model", tmp_path / "history.csv", trained, **HEADER)
        assert (tmp_path / "history.csv").exists() and not (tmp_path / "model").exists()

    def test_the_model_file_holds_the_trained_network(self, run, few, tmp_path):
        trained = run("hard", epochs=1)
        save(tmp_path / "model", tmp_path / "history.csv", trained, **HEADER)
        loaded = models.load(tmp_path / "model")
        expected = trained.network.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
        assert loaded.mean.flatten().tolist() == pytest.approx(few.mean)
        assert trained.architecture["classes"] == 10 and trained.architecture["channels"] == 1

    def test_the_log_says_what_is_trained_and_every_epoch(self, run):
        lines = []
        run("hard", log=lines.append)
        assert lines[0] == "44,550 parameters, 160 images, device cpu, 1 threads"
        assert [line[:11] for line in lines[1:3]] == ["epoch   1/2", "epoch   2/2"]
        assert all("\n" not in line for line in lines)


class TestMethodFile:
    def test_a_file_holds_one_method(self, few, build, training_keys):
        places = {"seed": 0, "threads": 1, "checkpoint": None, "identity": "", "log": print}
        with pytest.raises(TypeError, match="kdq.distill.losses: found 0 classes derived from Method, expected one"):
            distill(few, build(), "kdq.distill.losses", training_keys(), **places)
