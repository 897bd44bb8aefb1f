"""The training loop: schedules, averaging, the choice of the epoch, and a stop at numbers that are none."""

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdq.data.batches import Batch, TrainingBatches
from kdq.errors import UserError
from kdq.provenance.describe import identity
from kdq.train import checkpoint as checkpoints
from kdq.train.loop import Run, fit, make_schedule, parameter_groups
from kdq.train.settings import Training
from kdq.train.task import Classification, Step, Task
from kdq.workflow.terminal.job_log import epochs


def settings(**changes) -> Training:
    return Training(**{"epochs": 3, "batch_size": 8, "precision": "float32", **changes})


class Linear(nn.Module):
    """As small as a network can be, with a normalisation whose buffers are averaged too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(16)
        self.fc = nn.Linear(16, 3)

    def forward(self, images):
        return self.fc(self.norm(images.flatten(1)))


def batches(count=40, batch_size=8) -> TrainingBatches:
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = {"crop": 0, "flip": False, "cutout": 0, "fill": [0.5]}
    return TrainingBatches(images, torch.arange(count) % 3, batch_size=batch_size, **plain)


VALIDATION = SimpleNamespace(images=torch.zeros(6, 1, 4, 4, dtype=torch.uint8), labels=torch.arange(6) % 3)


@pytest.fixture
def run_fit(tmp_path):
    """Run ``fit`` on the smallest task; gives (history, lines of the log, states of the checkpoints)."""

    def run_fit(task=None, data=None, seed=0, identity="this run", validation=VALIDATION, **changes):
        lines, states = [], []
        task = task or Classification(Linear())
        chosen = settings(**changes)

        original = checkpoints.save

        def keep(path, state):
            original(path, state)
            states.append(torch.load(path, weights_only=True))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints, "save", keep)
            history = fit(
                task,
                data or batches(),
                validation,
                chosen,
                seed=seed,
                checkpoint=tmp_path / "checkpoint.pt",
                identity=identity,
                log=lines.append,
            )
        return SimpleNamespace(history=history, log=lines, states=states, network=task.network)

    return run_fit


def rates(chosen: Training, steps: int) -> list[float]:
    """The learning rate of each of ``steps`` steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=chosen.learning_rate)
    schedule = make_schedule(optimizer, chosen, steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


class TestWeightDecay:
    def test_of_all_parameters(self):
        task = Classification(Linear())
        (group,) = parameter_groups(task, settings(weight_decay=0.01))
        assert group["weight_decay"] == 0.01
        assert list(map(id, group["params"])) == list(map(id, task.parameters()))

    def test_of_weights_alone(self):
        """A step with a gradient of zero shrinks the weights by the rate times the decay, and nothing else."""
        task = Classification(Linear())
        before = {name: value.detach().clone() for name, value in task.named_parameters()}
        chosen = settings(weight_decay=0.01, decayed="weights")
        optimizer = torch.optim.SGD(parameter_groups(task, chosen), lr=0.5)
        for parameter in task.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for name, value in task.named_parameters():
            torch.testing.assert_close(value, before[name] * (0.995 if name == "network.fc.weight" else 1.0))
        assert {name for name in before if before[name].dim() > 1} == {"network.fc.weight"}

    def test_a_run_is_given_the_groups(self):
        run = Run(Classification(Linear()), batches(), VALIDATION, settings(decayed="weights"), seed=0)
        assert [group["weight_decay"] for group in run.optimizer.param_groups] == [5e-4, 0.0]


class TestSchedule:
    @pytest.mark.parametrize("steps", [1, 2, 7, 100])
    def test_cosine(self, steps):
        expected = [0.3 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
        assert rates(settings(schedule="cosine", learning_rate=0.3), steps) == pytest.approx(expected)

    @pytest.mark.parametrize("rise", [0.0, 0.2, 0.35, 1.0])
    @pytest.mark.parametrize("steps", [10, 99, 100])
    def test_onecycle_rises_and_falls_in_straight_lines(self, steps, rise):
        highest, lowest = 0.3, 0.3 / 25 / 1e4
        peak = rise * (steps + 1) - 1

        def expected(step):
            if step <= peak:
                return 0.3 / 25 + (highest - 0.3 / 25) * step / peak
            return highest + (lowest - highest) * (step - peak) / (steps - peak)

        found = rates(settings(schedule="onecycle", learning_rate=0.3, rise=rise), steps)
        assert found == pytest.approx([expected(step) for step in range(steps)])
        assert max(found) <= highest

    def test_onecycle_where_the_rise_is_one_step(self):
        assert len(rates(settings(schedule="onecycle", rise=0.2), 4)) == 4

    def test_of_the_run_in_its_history(self, run_fit):
        """A row's learning rate is that of the epoch's last step; all steps of all epochs are one curve."""
        history = run_fit(learning_rate=0.1, epochs=3).history  # five steps an epoch
        curve = rates(settings(learning_rate=0.1), 15)
        assert [row["learning_rate"] for row in history] == pytest.approx([curve[4], curve[9], curve[14]])


class TestSelect:
    ACCURACIES = (0.5, 0.7, 0.7, 0.6)

    @pytest.fixture(autouse=True)
    def validation(self, monkeypatch):
        monkeypatch.setattr(Run, "validate", lambda run, network: self.ACCURACIES[run.epoch])

    @pytest.mark.parametrize(("select", "epoch"), [("best", 2), ("last", 4)])
    def test_the_first_best_epoch_or_the_last(self, run_fit, select, epoch):
        result = run_fit(epochs=4, select=select)
        expected = {
            key.removeprefix("network."): value
            for key, value in result.states[epoch - 1]["task"].items()
            if key.startswith("network.")
        }
        found = result.network.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
        other = result.states[3 if epoch == 2 else 1]["task"]["network.fc.weight"]
        assert not torch.equal(found["fc.weight"], other)
        assert f"saving epoch {epoch}, validation accuracy {self.ACCURACIES[epoch - 1]:.4f}" in result.log[-1]
        assert not result.network.training

    def test_best_across_a_resumed_run(self, run_fit):
        run_fit(epochs=4)
        assert "saving epoch 2" in run_fit(epochs=4).log[-1]


class Pair(Task):
    """Two networks that learn the same side by side; either may be saved, or the first only."""

    def __init__(self, candidates=("network", "peer")):
        super().__init__(Linear())
        self.peer, self.candidates = Linear(), candidates
        nn.init.zeros_(self.peer.fc.weight)

    @property
    def networks(self):
        return {"network": self.network, "peer": self.peer}

    def forward(self, batch: Batch) -> Step:
        logits = {name: network(batch.images) for name, network in self.networks.items()}
        terms = {name: F.cross_entropy(value, batch.labels) for name, value in logits.items()}
        return Step(terms, logits["network"])


class TestCandidates:
    """Of a task of several networks, the one that is better on validation is saved."""

    ACCURACIES = {"network": (0.5, 0.6, 0.6, 0.5), "peer": (0.2, 0.6, 0.7, 0.4)}

    @pytest.fixture(autouse=True)
    def validation(self, monkeypatch):
        def validate(run, network):
            name = next(name for name, other in run.evaluated.items() if other is network)
            return self.ACCURACIES[name][run.epoch]

        monkeypatch.setattr(Run, "validate", validate)

    @pytest.mark.parametrize(
        ("select", "epochs", "candidates", "saved", "epoch"),
        [
            ("best", 4, ("network", "peer"), "peer", 3),
            ("best", 2, ("network", "peer"), "network", 2),  # the first among equals
            ("best", 4, ("network",), "network", 2),
            ("last", 3, ("network", "peer"), "peer", 3),
            ("last", 4, ("network", "peer"), "network", 4),
            ("last", 3, ("network",), "network", 3),
        ],
    )
    @pytest.mark.parametrize("averaging", [0.0, 0.5])
    def test_the_better_one_is_saved(self, run_fit, select, epochs, candidates, saved, epoch, averaging):
        result = run_fit(Pair(candidates), epochs=epochs, select=select, averaging=averaging)
        state = result.states[epoch - 1]
        expected = state["averages"][f"{saved}.module.fc.weight"] if averaging else state["task"][f"{saved}.fc.weight"]
        assert torch.equal(result.network.fc.weight, expected)
        name = " of the peer" if saved == "peer" else ""
        accuracy = self.ACCURACIES[saved][epoch - 1]
        assert result.log[-1] == f"saving epoch {epoch}{name}, validation accuracy {accuracy:.4f}"

    def test_history_and_log_show_every_network(self, run_fit):
        result = run_fit(Pair(), epochs=4)
        for name, column in (("network", "validation_accuracy"), ("peer", "peer_validation_accuracy")):
            assert tuple(row[column] for row in result.history) == self.ACCURACIES[name]
        assert "validation 60.00%  peer validation 70.00%" in result.log[2]


class TestHistory:
    def test_a_row_an_epoch_with_named_columns(self, run_fit):
        history = run_fit(epochs=3).history
        assert [row["epoch"] for row in history] == [1, 2, 3]
        for row in history:
            assert list(row) == [
                *("epoch", "learning_rate", "loss_cross_entropy", "training_accuracy", "validation_accuracy"),
                *("training_flops", "images_per_second", "processor_seconds", "energy_joules", "peak_memory_bytes"),
            ]
            numbers = [value for name, value in row.items() if name != "energy_joules"]
            assert all(isinstance(value, int | float) for value in numbers)
            assert row["energy_joules"] is None or row["energy_joules"] >= 0
            assert row["peak_memory_bytes"] > 10**6

    def test_a_long_epoch_tells_how_far_it_is(self, run_fit, monkeypatch):
        monkeypatch.setattr("kdq.train.loop.LOG_EVERY_SECONDS", -1)
        lines = run_fit(epochs=2).log
        steps = [line for line in lines if "step" in line]
        assert steps[0].split() == ["epoch", "1/2", "step", f"1/{len(batches())}", "so", "far"]
        assert [epochs(f"{line}\n") for line in steps[:2]] == [(1 / len(batches()), 2), (2 / len(batches()), 2)]

    def test_validation_is_measured_in_eval_mode(self, run_fit):
        """The network's own accuracy on the validation part, and no statistics are taken from it."""
        result = run_fit(epochs=1)
        predicted = result.network.eval()(VALIDATION.images.float() / 255).argmax(1)
        assert result.history[0]["validation_accuracy"] == (predicted == VALIDATION.labels).double().mean().item()
        assert result.network.norm.num_batches_tracked == 5

    def test_one_step_of_plain_gradient_descent(self, run_fit):
        """With no momentum and no decay the weights move by the rate times the gradient."""
        data = batches(8)
        before = Linear()
        order = next(iter(data.epoch(1, torch.Generator().manual_seed(0))))
        loss = F.cross_entropy(before(order.images), order.labels)
        gradient = torch.autograd.grad(loss, before.fc.weight)[0]
        plain = {"epochs": 1, "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.1}
        result = run_fit(data=data, **plain)
        torch.testing.assert_close(result.network.fc.weight, before.fc.weight - 0.1 * gradient)
        assert result.history[0]["loss_cross_entropy"] == pytest.approx(loss.item())


class TestAveraging:
    def test_exponential_moving_average_of_the_steps(self):
        run = Run(Classification(Linear()), batches(), VALIDATION, settings(averaging=0.8), 0)
        run.task.train()
        expected = None
        for batch in run.batches.epoch(1, run.generator):
            run._step(batch)
            now = {key: value.clone() for key, value in run.task.network.state_dict().items()}
            expected = expected or now
            for key in now:
                if now[key].is_floating_point():
                    expected[key] = 0.8 * expected[key] + 0.2 * now[key]
        found = run.evaluated["network"].state_dict()
        assert run.evaluated["network"] is not run.task.network
        for key in expected:
            if expected[key].is_floating_point():
                torch.testing.assert_close(found[key], expected[key])

    def test_the_average_is_saved(self, run_fit):
        result = run_fit(averaging=0.5, select="last")
        state = result.states[-1]
        assert torch.equal(result.network.fc.weight, state["averages"]["network.module.fc.weight"])
        assert not torch.equal(result.network.fc.weight, state["task"]["network.fc.weight"])

    def test_none_is_none(self):
        run = Run(Classification(Linear()), batches(), VALIDATION, settings(averaging=0.0), 0)
        assert run.evaluated["network"] is run.task.network


class Breaking(Task):
    """A task with two terms, of which one is broken at a step of an epoch."""

    def __init__(self, epoch: int, step: int, value: float):
        super().__init__(Linear())
        self.when, self.value, self.steps = (epoch, step), value, {}

    def forward(self, batch: Batch) -> Step:
        logits = self.network(batch.images)
        step = self.steps[batch.epoch] = self.steps.get(batch.epoch, 0) + 1
        broken = self.value if (batch.epoch, step) == self.when else 0.0
        return Step({"fine": F.cross_entropy(logits, batch.labels), "bad": logits.mean() * 0 + broken}, logits)


class TestNotFinite:
    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    @pytest.mark.parametrize(("epoch", "step"), [(1, 1), (1, 50), (1, 51), (2, 73), (2, 120)])
    def test_stops_with_epoch_step_and_term(self, run_fit, epoch, step, value):
        with pytest.raises(UserError, match=f"^epoch {epoch}, step {step}: the loss term 'bad' is {value}, expected"):
            run_fit(Breaking(epoch, step, value), batches(240, 2))

    def test_the_run_before_it_is_kept(self, run_fit, tmp_path):
        with pytest.raises(UserError):
            run_fit(Breaking(2, 3, math.nan))
        assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == 1

    def test_a_learning_rate_far_too_high(self, run_fit):
        with pytest.raises(UserError, match="the loss term 'cross_entropy' is (nan|inf), .* lower learning_rate"):
            run_fit(learning_rate=100.0, weight_decay=1.0, epochs=5)


class TestDiverged:
    """A network that has one answer for all images is no better than chance."""

    def test_the_log_warns(self, run_fit):
        run = run_fit(epochs=5)  # all images of validation are the same
        assert run.log[-1].startswith("warning: after the last epoch the validation accuracy is 33.33%, no better than")

    def test_a_network_that_has_learned_has_no_warning(self, run_fit):
        images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        run = run_fit(epochs=5, validation=SimpleNamespace(images=images, labels=torch.arange(40) % 3))
        assert run.history[-1]["validation_accuracy"] > 0.5
        assert not any("warning" in line for line in run.log)


class TestClassification:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
    def test_label_smoothing_spreads_over_all_classes(self, smoothing):
        network = Linear().eval()
        batch = next(batches().epoch(1, torch.Generator().manual_seed(0)))
        logs = network(batch.images).log_softmax(1)
        targets = (1 - smoothing) * F.one_hot(batch.labels, 3) + smoothing / 3
        step = Classification(network, smoothing)(batch)
        torch.testing.assert_close(step.terms["cross_entropy"], -(targets * logs).sum(1).mean())
        torch.testing.assert_close(step.logits.log_softmax(1), logs)


class TestCheckpoint:
    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", bytes(1000)])
    def test_a_damaged_one_is_not_used_and_the_log_says_so(self, run_fit, tmp_path, content):
        whole = run_fit()
        (tmp_path / "checkpoint.pt").write_bytes(content)
        again = run_fit()
        assert "not readable as a checkpoint" in again.log[0] and "starting over" in again.log[0]
        assert "\n" not in again.log[0]
        assert torch.equal(again.network.fc.weight, whole.network.fc.weight)
        assert len(again.states) == 3

    def test_a_truncated_one(self, run_fit, tmp_path):
        run_fit()
        path = tmp_path / "checkpoint.pt"
        whole = path.read_bytes()
        for size in (len(whole) // 4, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            assert "starting over" in run_fit().log[0]

    @pytest.mark.parametrize("state", [[], {}, {"epoch": 1}, "text", 3, None], ids=str)
    def test_something_else(self, run_fit, tmp_path, state):
        checkpoints.save(tmp_path / "checkpoint.pt", state)
        assert "starting over" in run_fit().log[0]

    def test_one_with_a_single_bit_turned(self, run_fit, tmp_path):
        run_fit()
        path = tmp_path / "checkpoint.pt"
        whole = path.read_bytes()
        for place in range(0, len(whole), len(whole) // 25):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            assert checkpoints.load(path, "this run", lambda line: None) is None

    def test_another_runs_is_not_used_and_the_log_says_so(self, run_fit):
        run_fit(identity="another")
        result = run_fit()
        assert "of another run (an earlier version's); starting over" in result.log[0]
        assert len(result.states) == 3

    def test_the_log_names_what_differs(self, run_fit):
        made_by = {"device": "cpu AVX2", "precision": "float32", "threads": 1, "inputs": {"data": "a"}}
        run_fit(identity=identity(seed=0, made_by=made_by))
        changed = made_by | {"device": "cpu AVX512 bf16", "precision": "bfloat16"}
        result = run_fit(identity=identity(seed=0, made_by=changed))
        changes = "made_by.device 'cpu AVX2' -> 'cpu AVX512 bf16'; made_by.precision 'float32' -> 'bfloat16'"
        assert result.log[0].endswith(f"checkpoint.pt: of another run ({changes}); starting over")
        assert len(result.states) == 3
        many = run_fit(identity=identity(seed=1, made_by={"inputs": {"data": "b"}})).log[0]
        assert "(made_by.device 'cpu AVX512 bf16' -> None; made_by.inputs.data 'a' -> 'b'; " in many
        assert "; and 2 more); starting over" in many

    @pytest.mark.parametrize(
        ("make", "kind"), [(Path.mkdir, "a folder"), (os.mkfifo, "a FIFO")], ids=["folder", "pipe"]
    )
    def test_something_that_is_no_file_is_refused_before_the_training(self, run_fit, tmp_path, make, kind):
        path = tmp_path / "checkpoint.pt"
        make(path)
        with pytest.raises(UserError, match=f"^{path}: found {kind}, expected a file; remove it"):
            run_fit()
        assert path.exists()

    def test_code_in_it_is_not_run(self, run_fit, tmp_path):
        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "trapped"), "w"))

        checkpoints.save(tmp_path / "checkpoint.pt", {"identity": "this run", "trap": Trap()})
        assert "starting over" in run_fit().log[0]
        assert not (tmp_path / "trapped").exists()

    def test_a_finished_one_trains_no_more(self, run_fit):
        whole, again = run_fit(), run_fit()
        assert again.states == [] and again.history == whole.history
        assert "going on after epoch 3" in again.log[0]
        assert torch.equal(again.network.fc.weight, whole.network.fc.weight)
