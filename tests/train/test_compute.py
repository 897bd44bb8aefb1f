"""The operations of a training, counted: those of its layers by hand, and trainings of equal cost."""

import importlib

import pytest
import torch
from torch import nn

from kdq.distill.methods import kd
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.train import compute, history, loop
from kdq.train.compute import Cost
from kdq.train.stage import train_root
from tests.distill.samples import batches

IMAGES = 160 // 32 * 32  # of an epoch of `few` in batches of 32


def forward_flops(network: nn.Module, side: int) -> int:
    """Two per multiplication and addition of the convolutions and the classifier, from their output shapes."""
    counted = []

    def count(layer, inputs, output):
        inner = layer.weight[0].numel()
        counted.append(2 * inner * output[0].numel())

    hooks = [part.register_forward_hook(count) for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, side, side))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def training_flops(network: nn.Module, side: int) -> int:
    """The backward pass has two products per layer, but the images need no gradient."""
    first = 2 * network.conv1.weight.numel() * side**2
    return 3 * forward_flops(network, side) - first


@pytest.fixture
def root(few, tmp_path, training_keys):
    def root(identity="", **changes):
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": identity, "log": print}
        return train_root(few, {**training_keys(**changes), "label_smoothing": 0.0}, seed=0, threads=1, **places)

    return root


class TestCounted:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_of_a_root_at_each_resolution(self, root, build, precision):
        rows = root(resolution=6, precision=precision).history
        expected = [IMAGES * training_flops(build(), side) for side in (6, 8)]
        assert [row["training_flops"] for row in rows] == expected

    def test_of_a_student_and_its_teacher(self, build, few):
        student, parent = build(), build(seed=1, width=0.125)
        task = Distillation(
            student, Teacher(parent), kd.KD(kd.Parameters()), torch.rand(2, 1, 8, 8), few.train.labels, 0
        )
        run = loop.Run.__new__(loop.Run)
        run._step = lambda batch: sum(task(batch).terms.values()).backward()
        run.task = task
        _, counted = run._counted_step(next(batches()))
        assert counted == 8 * (training_flops(build(), 8) + forward_flops(parent, 8))

    def test_of_a_step_in_so_many(self, few, build, training_keys, tmp_path):
        """NTK matches the kernels in the first of five steps, the epoch's, or in each of them."""

        def flops(name, **changes) -> int:
            module = f"kdq.distill.methods.{name}"
            parameters = importlib.import_module(module).Parameters(**changes).model_dump()
            places = {"checkpoint": tmp_path / f"{name} {changes}.pt", "identity": "", "log": print}
            keys = {**training_keys(epochs=1), **parameters}
            trained = distill(few, build(seed=1), module, keys, seed=0, threads=1, **places)
            return trained.history[0]["training_flops"]

        plain, every, once = flops("kd"), flops("ntk", every=1, probes=2), flops("ntk", every=5, probes=2)
        assert every - plain == 5 * (once - plain) > 0

    def test_counting_changes_no_bit(self, root, monkeypatch):
        keys = {"schedule": "onecycle", "averaging": 0.8, "flip": True, "precision": "bfloat16"}
        counted = root(**keys, select="last").network.state_dict()
        monkeypatch.setattr(loop.Run, "_counted_step", lambda run, batch: (run._step(batch), 1))
        plain = root(**keys, select="last", identity="plain").network.state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in counted.items())


ROW = {"images_per_second": 10.0, "processor_seconds": 30.0, "energy_joules": None, "peak_memory_bytes": 1}


class TestEqualCompute:
    def test_epochs_of_the_control(self):
        control, student = Cost(10, 500, 9.0, None), Cost(15, 1512, 20.0, None)
        assert student.epochs_equal_compute(control) == 30
        assert control.epochs_equal_compute(control) == 10
        assert Cost(1, 1, 1.0, None).epochs_equal_compute(control) == 1

    def test_costs_of_histories_are_printed(self, tmp_path, capsys):
        paths = []
        for name, flops, epochs in (("hard", 4 * 10**9, 2), ("kd", 9 * 10**9, 3)):
            paths.append(str(tmp_path / name / "history.csv"))
            (tmp_path / name).mkdir()
            energy = {"energy_joules": 1500.0} if name == "kd" else {}
            rows = [{"epoch": epoch, "training_flops": flops, **ROW, **energy} for epoch in range(epochs)]
            history.write(paths[-1], rows)
        compute.main(paths)
        _, hard, student = (line.split() for line in capsys.readouterr().out.splitlines())
        assert hard == ["2", "8e+09", "60", "2", str(tmp_path / "hard")]
        assert student == ["3", "2.7e+10", "90", "4.5", "7", str(tmp_path / "kd")]

    def test_what_has_no_costs(self, tmp_path):
        path = tmp_path / "history.csv"
        history.write(path, [])
        with pytest.raises(UserError, match="found no training in it, expected a history of at least one epoch"):
            compute.cost(path)
        path.write_bytes(b"epoch,images_per_second,peak_memory_bytes\r\n1,7.5,512\r\n")
        with pytest.raises(UserError, match="not readable as the costs of a training"):
            compute.cost(path)
