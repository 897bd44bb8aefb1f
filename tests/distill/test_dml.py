"""Deep mutual learning: two networks that learn from each other, and never through each other."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdq.distill.keys import Distilling
from kdq.distill.losses import dml as loss
from kdq.distill.losses import kd
from kdq.distill.methods import dml
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Peer
from kdq.errors import UserError
from kdq.train import checkpoint as checkpoints
from kdq.train import stage
from kdq.train.history import MEASURED
from kdq.train.loop import Run
from kdq.train.stage import save
from tests.distill.samples import batches

KEYS = dml.Parameters().model_dump()
HEADER = {"recipe": "hard/dml", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
EVERYTHING = {"schedule": "onecycle", "averaging": 0.8, "flip": True, "cutout": 3, "mixup": 1.0}
SGD = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


def logits(seed, rows=6, classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.fixture
def make(build):
    def make(options=None, peer=None, **keys) -> Distillation:
        method = dml.DML(dml.Parameters(**keys), options)
        return Distillation(
            build(), Peer(peer or build(seed=1)), method, torch.rand(2, 1, 8, 8), torch.arange(20), seed=0
        )

    return make


class TestLoss:
    def test_published_value_and_gradient(self, golden):
        """At temperature 1 it is the divergence of plain distillation, with the peer as the teacher."""
        student = golden["student_logits"].clone().requires_grad_()
        found = loss(student, golden["teacher_logits"], 1.0)
        torch.testing.assert_close(found, golden["kd_T1"].squeeze(), rtol=1e-9, atol=1e-9)
        gradient = torch.autograd.grad(found, student)[0]
        torch.testing.assert_close(gradient, golden["kd_T1_grad"], rtol=1e-9, atol=1e-9)

    @given(st.integers(0, 10**6), st.floats(0.5, 20))
    def test_zero_at_equality_only(self, seed, temperature):
        own, other = logits(seed), logits(seed + 1)
        assert loss(own, own, temperature).abs() < 1e-12
        assert loss(own, other, temperature) > 0
        torch.testing.assert_close(loss(own, other, temperature), kd(own, other, temperature))

    def test_the_peer_gets_no_gradient(self):
        own, other = logits(0).requires_grad_(), logits(1).requires_grad_()
        loss(own, other, 2.0).backward()
        assert own.grad.abs().max() > 0 and other.grad is None

    @pytest.mark.parametrize("sign", [1, -1])
    def test_finite_at_the_edge_of_half_precision(self, sign):
        certain = 1e4 * F.one_hot(torch.arange(5), 5).to(torch.bfloat16)
        own = (sign * certain).requires_grad_()
        found = loss(own, certain, 1.0)
        found.backward()
        assert found.isfinite() and found.dtype == torch.float32 and own.grad.isfinite().all()


class TestGradients:
    def test_none_crosses(self, make):
        """Each network's own terms are blind to the other, so the sum moves each by its own terms only."""
        task = make()
        terms = task(next(batches())).terms
        own = {"network": ("cross_entropy", "mutual"), "peer": ("peer_cross_entropy", "peer_mutual")}
        assert {name for names in own.values() for name in names} == terms.keys()
        alone = {}
        for name, other in (("network", "peer"), ("peer", "network")):
            part = sum(terms[term] for term in own[name])
            crossing = torch.autograd.grad(
                part, list(task.networks[other].parameters()), retain_graph=True, allow_unused=True
            )
            assert all(gradient is None for gradient in crossing)
            alone[name] = torch.autograd.grad(part, list(task.networks[name].parameters()), retain_graph=True)
        sum(terms.values()).backward()
        for name, network in task.networks.items():
            found = [parameter.grad for parameter in network.parameters()]
            assert all(torch.equal(*pair) for pair in zip(found, alone[name], strict=True))

    def test_one_optimizer_does_what_two_do(self, make):
        """Both forwards, then each network's own loss and its own optimizer: the same weights to the last bit."""
        task = make(weight=0.7, temperature=2.0)
        one, two = copy.deepcopy(task.network), copy.deepcopy(task.teacher.network)
        optimizer = torch.optim.SGD(task.parameters(), **SGD)
        for batch in batches():
            optimizer.zero_grad()
            sum(task(batch).terms.values()).backward()
            optimizer.step()
        optimizers = [torch.optim.SGD(network.parameters(), **SGD) for network in (one, two)]
        for batch in batches():
            outputs = [network(batch.images) for network in (one, two)]
            for i, optimizer in enumerate(optimizers):
                own = F.cross_entropy(outputs[i], batch.labels) + 0.7 * loss(outputs[i], outputs[1 - i].detach(), 2.0)
                optimizer.zero_grad()
                own.backward()
            for optimizer in optimizers:
                optimizer.step()
        for found, expected in ((task.network, one), (task.teacher.network, two)):
            assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())


class TestPeers:
    def test_both_train_and_keep_statistics(self, make):
        task = make()
        before = {name: copy.deepcopy(network.state_dict()) for name, network in task.networks.items()}
        assert all(module.training for module in task.modules())
        optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
        for batch in batches():
            optimizer.zero_grad()
            sum(task(batch).terms.values()).backward()
            optimizer.step()
        for name, network in task.networks.items():
            same = [key for key, value in network.state_dict().items() if torch.equal(value, before[name][key])]
            assert not [key for key in same if "running_" in key or key.startswith(("conv1", "fc"))]

    def test_the_example_leaves_no_trace(self, make, build):
        task = make()
        for network, fresh in ((task.network, build()), (task.teacher.network, build(seed=1))):
            assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in network.state_dict().items())

    def test_in_the_checkpoint(self, make):
        assert {key.split(".")[0] for key in make().state_dict()} == {"network", "teacher", "_extra_state"}

    def test_both_see_the_very_same_mixed_images_and_labels(self, make):
        task = make(Distilling(mixup=1.0, label_smoothing=0.1))
        seen = []
        for network in task.networks.values():
            network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        plain = next(batches())
        labels = []
        task.method.label_loss = lambda batch, outputs: labels.append(batch) or outputs.logits.sum()
        task(plain)
        assert len(seen) == 2 and seen[0] is seen[1] and not torch.equal(seen[0], plain.images)
        assert len(labels) == 2 and labels[0] is labels[1] and labels[0].partner_labels is not None


@pytest.fixture
def run(few, build, training_keys, tmp_path):
    """Distil by ``dml`` on few digits from a parent; gives what was trained."""

    def run(name="run", parent=None, seed=0, log=print, checkpoint=None, **changes):
        keys = {**Distilling().model_dump(), **KEYS, **training_keys(), **changes}
        places = {"checkpoint": checkpoint or tmp_path / f"{name}.pt", "identity": "run", "log": log}
        # the normalisation of the data, as a parent that was trained on it has
        parent = parent or build(seed=1, mean=few.mean, std=few.std)
        return distill(few, parent, "kdq.distill.methods.dml", keys, seed=seed, threads=1, **places)

    return run


class TestStart:
    @pytest.fixture
    def tasks(self, monkeypatch):
        """The tasks that would have been trained."""
        found = []
        monkeypatch.setattr(stage, "fit", lambda task, *arguments, **places: found.append(task) or [])
        return found

    def test_as_the_parent(self, run, tasks, build):
        run(parent=build(seed=1, width=0.125))
        expected = build(seed=1, width=0.125).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in tasks[0].teacher.network.state_dict().items())
        assert any(isinstance(module, nn.BatchNorm2d) for module in tasks[0].teacher.network.modules())

    def test_fresh_of_the_parents_architecture(self, run, tasks, build):
        parent = build("resnet34", seed=1, mean=[0.9])
        for seed in (0, 0, 1):
            run(parent=parent, seed=seed, start="fresh")
        first, again, other = (task.teacher.network for task in tasks)
        assert first.architecture == parent.architecture and first.mean.item() == pytest.approx(0.9)
        name = "layer1.0.conv1.weight"
        weights = [network.state_dict()[name] for network in (first, again, other, parent, tasks[0].network)]
        assert torch.equal(weights[0], weights[1])
        assert not any(torch.equal(weights[0], weight) for weight in weights[2:])

    def test_fresh_is_refused_for_another_kind_of_network(self):
        method = dml.DML(dml.Parameters(start="fresh"))
        with pytest.raises(UserError, match="dml: start: found fresh, but the parent is no network"):
            method.peer(nn.Linear(2, 2))

    def test_the_parent_stays_as_it_is(self, run, build, few):
        parent = build(seed=1, mean=few.mean, std=few.std).eval()
        before = copy.deepcopy(parent.state_dict())
        run(parent=parent, epochs=1)
        assert not parent.training
        assert all(torch.equal(value, before[key]) for key, value in parent.state_dict().items())


class TestBetterPeer:
    @pytest.fixture(autouse=True)
    def validation(self, monkeypatch):
        """The peer is the better one in every epoch, and every epoch is better than the one before."""

        def validate(run, network):
            run.task.last = {name: copy.deepcopy(n.state_dict()) for name, n in run.evaluated.items()}
            return (run.epoch + 1) / 10 + 0.05 * (network is run.evaluated["peer"])

        monkeypatch.setattr(Run, "validate", validate)

    @pytest.mark.parametrize("averaging", [0.0, 0.5])
    @pytest.mark.parametrize("select", ["best", "last"])
    @pytest.mark.parametrize("other", [{}, {"width": 0.125}, {"mean": [0.9]}], ids=["same", "width", "mean"])
    def test_saved_where_the_architecture_is_the_students(self, run, build, few, monkeypatch, select, averaging, other):
        tasks, fit = [], stage.fit
        monkeypatch.setattr(
            stage, "fit", lambda task, *rest, **places: tasks.append(task) or fit(task, *rest, **places)
        )
        parent = build(seed=1, **{"mean": few.mean, "std": few.std, **other})
        lines = []
        trained = run(parent=parent, select=select, averaging=averaging, log=lines.append)
        expected = tasks[0].last["network" if other else "peer"]
        assert all(torch.equal(value, expected[key]) for key, value in trained.network.state_dict().items())
        assert (
            lines[-1]
            == f"saving epoch 2{'' if other else ' of the peer'}, validation accuracy 0.2{0 if other else 5}00"
        )
        # that of the peer is in the history in either case
        assert [row["peer_validation_accuracy"] for row in trained.history] == pytest.approx([0.15, 0.25])
        assert [row["validation_accuracy"] for row in trained.history] == pytest.approx([0.1, 0.2])


class TestResumed:
    """A run that stopped anywhere, started again, ends with the bytes of one that did not."""

    @pytest.fixture
    def saved(self, tmp_path):
        def saved(trained, name) -> bytes:
            folder = tmp_path / name
            save(folder / "model", folder / "history.csv", trained, **HEADER)
            return (folder / "model").read_bytes()

        return saved

    @pytest.mark.parametrize("changes", [EVERYTHING, {"select": "last", "start": "fresh"}], ids=["everything", "plain"])
    def test_from_every_epoch(self, run, saved, tmp_path, monkeypatch, changes):
        original = checkpoints.save

        def keep(path, state):
            original(path, state)
            shutil.copy(path, tmp_path / f"after-{state['epoch']}.pt")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", keep)
            whole = run(epochs=3, **changes)
        for epoch in (1, 2):
            torch.manual_seed(99)  # whatever happened before in this process
            lines = []
            again = run(checkpoint=tmp_path / f"after-{epoch}.pt", epochs=3, log=lines.append, **changes)
            assert any(f"going on after epoch {epoch}" in line for line in lines)
            assert saved(again, "again") == saved(whole, "whole")
            for column in whole.history[0].keys() - set(MEASURED):
                assert [row[column] for row in again.history] == [row[column] for row in whole.history]

    def test_stopped_in_the_middle_of_an_epoch(self, run, saved, monkeypatch):
        """Five steps an epoch; stopped at the third step of epoch 2, when one checkpoint was written."""
        whole = saved(run("whole", epochs=3, **EVERYTHING), "whole")
        steps, step = [], Run._step

        def stop(run, batch):
            steps.append(batch)
            if len(steps) == 8:
                raise KeyboardInterrupt
            return step(run, batch)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Run, "_step", stop)
            run("stopped", epochs=3, **EVERYTHING)
        torch.manual_seed(99)
        lines = []
        assert saved(run("stopped", epochs=3, log=lines.append, **EVERYTHING), "stopped") == whole
        assert any("going on after epoch 1" in line for line in lines)


class TestLearning:
    @pytest.mark.slow
    def test_two_fresh_networks_learn_the_digits_and_agree_more(self, digits, build, training_keys, tmp_path):
        changes = {"width": 0.125, "epochs": 5, "learning_rate": 0.1, "schedule": "onecycle", "start": "fresh"}
        keys = {**Distilling().model_dump(), **KEYS, **training_keys(**changes)}
        parent = build(width=0.125, mean=digits.mean, std=digits.std)
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": "run", "log": print}
        history = distill(digits, parent, "kdq.distill.methods.dml", keys, seed=0, threads=1, **places).history
        assert history[-1]["validation_accuracy"] > 0.8 and history[-1]["peer_validation_accuracy"] > 0.8
        divergences = [row["loss_mutual"] + row["loss_peer_mutual"] for row in history]
        assert divergences[-1] < divergences[1]
