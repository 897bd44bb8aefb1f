"""FitNets: the hint's loss and regressor, one stage and two."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import kdq
from kdq.data.batches import Batch, TrainingBatches
from kdq.distill.keys import Distilling
from kdq.distill.losses import hint, kd
from kdq.distill.methods import fitnet
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.train.loop import Run
from kdq.train.settings import Training
from kdq.train.stage import train_root

BEHIND_LAYER2 = ("layer3", "layer4", "fc")


def features(seed, shape=(4, 6, 3, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(epoch=1, rows=8):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(rows, 1, 8, 8, generator=generator)
    return Batch(images, torch.randint(0, 10, (rows,), generator=generator), torch.arange(rows), epoch)


@pytest.fixture
def make(build):
    def make(epochs=10, options=None, **keys) -> Distillation:
        method = fitnet.FitNet(fitnet.Parameters(**keys), options, epochs)
        teacher = build(seed=1, width=0.125).eval()
        return Distillation(build(), Teacher(teacher), method, torch.rand(2, 1, 8, 8), torch.arange(20), seed=0)

    return make


class TestHint:
    @given(st.integers(0, 10**6))
    def test_zero_at_equality_and_quadratic(self, seed):
        student, teacher = features(seed), features(seed + 1)
        assert hint(student, student) == 0
        torch.testing.assert_close(hint(teacher + 3 * (student - teacher), teacher), 9 * hint(student, teacher))

    @given(st.integers(0, 10**6))
    def test_half_the_squared_distance_of_a_position(self, seed):
        """The paper's loss: mean over images and positions of half the squared distance of their features."""
        student, teacher = features(seed), features(seed + 1)
        distances = (student - teacher).permute(0, 2, 3, 1).reshape(-1, 6).square().sum(1) / 2
        torch.testing.assert_close(6 / 2 * hint(student, teacher), distances.mean())

    @given(st.integers(0, 10**6))
    def test_blind_to_the_order_of_channels_and_positions(self, seed):
        student, teacher = features(seed), features(seed + 1)
        for move in (lambda x: x.roll(1, 1), lambda x: x.flip(2), lambda x: x.transpose(2, 3), lambda x: x.roll(1, 0)):
            torch.testing.assert_close(hint(move(student), move(teacher)), hint(student, teacher))

    def test_gradient(self):
        student, teacher = features(0).requires_grad_(), features(1)
        found = torch.autograd.grad(hint(student, teacher), student)[0]
        torch.testing.assert_close(found, 2 * (student.detach() - teacher) / student.numel())

    def test_half_precision_is_widened(self):
        student, teacher = (x.to(torch.bfloat16).requires_grad_() for x in (1e18 * features(0), features(1)))
        found = hint(student, teacher)
        found.backward()
        assert found.dtype == torch.float32 and found.isfinite() and student.grad.isfinite().all()
        assert hint(features(0), features(1)).dtype == torch.float64


class TestRegressor:
    @pytest.mark.parametrize(
        ("student", "teacher", "kernel"),
        [
            ((8, 8), (8, 8), (1, 1)),
            ((8, 8), (4, 4), (3, 3)),  # stride 2
            ((7, 7), (4, 4), (4, 4)),
            ((8, 6), (8, 5), (1, 2)),
            ((8, 8), (2, 2), (7, 7)),
            ((4, 4), (8, 8), (4, 4)),  # transposed
            ((1, 1), (2, 2), (4, 4)),
        ],
    )
    def test_reaches_the_teachers_shape(self, student, teacher, kernel):
        wanted = torch.Size((2, 12, *teacher))
        module = fitnet.regressor((2, 5, *student), wanted)
        found = module(torch.randn(2, 5, *student))
        assert found.shape == wanted and found.min() == 0  # rectified, as the features are
        assert module[0].kernel_size == kernel

    @pytest.mark.parametrize(("student", "teacher"), [((4, 4), (16, 16)), ((4, 4), (5, 5)), ((8, 4), (4, 8))])
    def test_of_a_much_smaller_student_it_is_refused(self, student, teacher):
        with pytest.raises(UserError, match=f"hint: found features of {student[0]}x{student[1]} in the student"):
            fitnet.regressor((2, 5, *student), (2, 12, *teacher))

    def test_trained_beside_the_student(self, make):
        task = make()
        trained = {id(parameter) for parameter in task.parameters()}
        assert {id(parameter) for parameter in task.method.regressor.parameters()} < trained
        assert task.method.regressor[0].weight.shape == (16, 8, 1, 1)
        assert not any("regressor" in key for key in task.network.state_dict())

    @pytest.mark.parametrize("layer", ["layer1", "layer2", "layer3", "layer4"])
    def test_the_layer_is_a_key(self, make, layer):
        task = make(hint=layer, hint_weight=3.0)
        _, student = task.network(batch().images, taps=(layer,))
        _, teacher = task.teacher.network(batch().images, taps=(layer,))
        expected = 3 * F.mse_loss(task.method.regressor(student[layer]), teacher[layer])
        torch.testing.assert_close(task(batch()).terms["hint"], expected)


class TestOneStage:
    def test_labels_and_hint(self, make):
        task = make(options=Distilling(label_smoothing=0.1))
        step = task(batch())
        assert list(step.terms) == ["cross_entropy", "hint"]
        expected = F.cross_entropy(step.logits, batch().labels, label_smoothing=0.1)
        torch.testing.assert_close(step.terms["cross_entropy"], expected)
        sum(step.terms.values()).backward()
        assert all(parameter.grad is not None for parameter in task.parameters())
        assert all(parameter.grad is None for parameter in task.teacher.network.parameters())

    def test_terms_are_float32_under_autocast(self, make):
        for stages in ("one", "two"):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                terms = make(stages=stages, hint_epochs=2)(batch()).terms
            assert all(term.dtype == torch.float32 and term.dim() == 0 for term in terms.values())


class TestTwoStages:
    KEYS = {"stages": "two", "hint_epochs": 2}

    def test_first_the_papers_hint_alone(self, make):
        task = make(**self.KEYS, hint="layer2", hint_weight=7.0)  # a weight of one stage
        for epoch in (1, 2):
            terms = task(batch(epoch)).terms
            _, student = task.network(batch().images, taps=("layer2",))
            _, teacher = task.teacher.network(batch().images, taps=("layer2",))
            difference = task.method.regressor(student["layer2"]) - teacher["layer2"]
            torch.testing.assert_close(terms["hint"], difference.square().sum(1).mean() / 2)
            assert terms["cross_entropy"] == terms["distillation"] == 0

    def test_then_labels_and_teacher(self, make):
        task = make(**self.KEYS)
        for epoch, weight in ((3, 4.0), (10, 1.0)):
            step = task(batch(epoch))
            with torch.no_grad():
                teacher = task.teacher.network(batch().images)
            torch.testing.assert_close(step.terms["cross_entropy"], F.cross_entropy(step.logits, batch().labels))
            expected = weight * kd(step.logits, teacher, 3.0) / 3.0**2
            torch.testing.assert_close(step.terms["distillation"], expected)
            assert step.terms["hint"] == 0

    @pytest.mark.parametrize(
        ("hint_epochs", "epochs", "weights"), [(2, 6, (4, 3, 2, 1)), (5, 7, (4, 1)), (1, 2, (4,)), (1, 3, (4, 1))]
    )
    def test_the_weight_falls_linearly(self, make, hint_epochs, epochs, weights):
        method = make(epochs, stages="two", hint_epochs=hint_epochs).method
        found = [method.distillation_weight(epoch) for epoch in range(hint_epochs + 1, epochs + 1)]
        assert found == pytest.approx(list(weights))

    @pytest.mark.parametrize(("epoch", "moving"), [(1, False), (3, True)])
    def test_gradients_end_at_the_hint_in_the_first(self, make, epoch, moving):
        task = make(**self.KEYS)
        sum(task(batch(epoch)).terms.values()).backward()
        for name, parameter in task.network.named_parameters():
            behind = name.startswith(BEHIND_LAYER2)
            assert (parameter.grad is None) == (behind and not moving), name
        assert all((parameter.grad is None) == moving for parameter in task.method.parameters())

    def test_decay_and_momentum_leave_what_is_behind_the_hint_alone(self, make, few):
        """Through the training loop: not a bit moves before the second stage, then everything but the regressor."""
        task = make(epochs=2, stages="two", hint_epochs=1)
        settings = Training(epochs=2, batch_size=32, weight_decay=0.01, precision="float32")
        plain = {"batch_size": 32, "crop": 0, "flip": False, "cutout": 0, "fill": few.mean}
        run = Run(task, TrainingBatches(few.train.images, few.train.labels, **plain), few.validation, settings, 0)

        def state():
            return {name: parameter.detach().clone() for name, parameter in task.named_parameters()}

        states = [state()]
        for epoch in (1, 2):
            run.train_epoch(epoch, print)
            states.append(state())
        for name in states[0]:
            of_network = name.removeprefix("network.")
            same = [torch.equal(states[i][name], states[i + 1][name]) for i in range(2)]
            assert same == [of_network.startswith(BEHIND_LAYER2), name.startswith("method.")], name
        assert run.history[0].keys() == run.history[1].keys()

    def test_no_epoch_left_for_the_second_is_refused_at_planning(self):
        grammar = Grammar(find_stages(Path(kdq.__file__).parent), {"teacher": {}, "student": {"epochs": 5}}, {})

        def resolve(text):
            return grammar.resolve(grammar.parse_stage(text))

        with pytest.raises(
            UserError, match="hint_epochs: found 5, expected fewer than the 5 epochs of the run"
        ) as error:
            resolve("fitnet,stages=two")
        assert "\n" not in str(error.value)
        assert resolve("fitnet,hint_epochs=4,stages=two")["hint_epochs"] == 4
        assert resolve("fitnet,epochs=6,stages=two")["epochs"] == 6
        assert resolve("fitnet")["stages"] == "one"


@pytest.fixture
def train_digits(digits, training_keys, tmp_path):
    """Train on all digits by ``train_root`` or ``distill`` with changed keys."""

    def train_digits(train, *arguments, **changes):
        keys = {**Distilling().model_dump(), **training_keys(width=0.125, epochs=5, schedule="onecycle"), **changes}
        places = {"checkpoint": tmp_path / f"{train.__name__}.pt", "identity": str(keys), "log": print}
        return train(digits, *arguments, keys, seed=0, threads=1, **places)

    return train_digits


class TestLearning:
    @pytest.mark.slow
    def test_digits_are_learnt_in_one_stage_and_in_two(self, train_digits):
        teacher = train_digits(train_root, label_smoothing=0.0).network
        for stages in ("one", "two"):
            keys = fitnet.Parameters(stages=stages, hint_epochs=2).model_dump()
            history = train_digits(distill, teacher, "kdq.distill.methods.fitnet", **keys).history
            assert history[1]["loss_hint"] < history[0]["loss_hint"]
            assert history[-1]["validation_accuracy"] > 0.8
            if stages == "two":
                assert history[1]["validation_accuracy"] < 0.5  # nothing has seen a label yet
