"""The task of a student and a frozen teacher: what it trains, what it leaves alone, what a method may bring along."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kdq
from kdq.data.batches import Batch
from kdq.distill.keys import Distilling
from kdq.distill.method import Method, Outputs
from kdq.distill.methods import at, crd, dkd, kd, mixup, ntk, pkt, reviewkd, rkd, sp
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.models.networks.resnet import TAPS
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.recipe.vocabulary import Base
from tests.distill.samples import batches

LABELS = torch.arange(20) % 10

METHODS = {
    "kd": lambda: kd.KD(kd.Parameters()),
    "kd with soft labels": lambda: kd.KD(kd.Parameters(loss="ce")),
    "dkd": lambda: dkd.DKD(dkd.Parameters()),
    "mixup": lambda: mixup.Mixup(mixup.Parameters(labels="mixed")),
    "at": lambda: at.AttentionTransfer(at.Parameters()),
    "rkd": lambda: rkd.RKD(rkd.Parameters()),
    "sp": lambda: sp.SimilarityPreserving(sp.Parameters()),
    "pkt": lambda: pkt.PKT(pkt.Parameters()),
    "crd": lambda: crd.CRD(crd.Parameters()),
    "reviewkd": lambda: reviewkd.ReviewKD(reviewkd.Parameters()),
    "ntk": lambda: ntk.NTK(ntk.Parameters(every=2, probes=2)),
}


class Hint(Method):
    """A method with a trainable adapter: a 1x1 convolution brings the student's features to the teacher's width."""

    features = ("layer2", "embedding")

    def build(self, student: Outputs, teacher: Outputs, training_labels) -> None:
        self.shapes = {tap: (student.features[tap].shape, teacher.features[tap].shape) for tap in self.features}
        inputs, outputs = (side.features["layer2"].shape[1] for side in (student, teacher))
        self.adapter = nn.Conv2d(inputs, outputs, 1)

    def losses(self, batch, student, teacher):
        hint = F.mse_loss(self.adapter(student.features["layer2"]), teacher.features["layer2"])
        return {"hint": hint, "cross_entropy": F.cross_entropy(student.logits, batch.labels)}


@pytest.fixture
def make(build):
    def make(method: Method) -> Distillation:
        teacher = build(seed=1, width=0.125)
        for module in teacher.modules():  # running statistics unlike fresh ones, so that a change would show
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
        return Distillation(build(), Teacher(teacher), method, torch.rand(2, 1, 8, 8), LABELS, seed=0)

    return make


def train(task: Distillation) -> None:
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
    task.train()
    for batch in batches():
        optimizer.zero_grad()
        sum(task(batch).terms.values()).backward()
        optimizer.step()


@pytest.mark.parametrize("name", METHODS)
class TestTeacher:
    def test_nothing_of_it_changes_while_the_student_learns(self, make, name):
        task = make(METHODS[name]())
        teacher, student = (copy.deepcopy(network.state_dict()) for network in (task.teacher.network, task.network))
        train(task)
        assert all(torch.equal(value, teacher[key]) for key, value in task.teacher.network.state_dict().items())
        after = task.network.state_dict()
        unchanged = [key for key in student if torch.equal(student[key], after[key])]
        assert not [key for key in unchanged if "running_" in key or key.startswith(("conv1", "fc"))]

    def test_eval_whatever_the_mode_of_the_task(self, make, name):
        task = make(METHODS[name]())
        for change in (task.train, task.eval, lambda: task.train(True)):
            change()
            assert not any(module.training for module in task.teacher.network.modules())
        assert task.network.training

    def test_out_of_reach_of_optimizer_and_checkpoint(self, make, name):
        task = make(METHODS[name]())
        of_teacher = {id(tensor) for tensor in (*task.teacher.network.parameters(), *task.teacher.network.buffers())}
        assert not of_teacher & {id(tensor) for tensor in (*task.parameters(), *task.buffers())}
        assert {key.split(".")[0] for key in task.state_dict()} <= {"network", "method", "_extra_state"}
        assert not any(parameter.requires_grad for parameter in task.teacher.network.parameters())

    def test_no_gradient_reaches_it(self, make, name):
        task = make(METHODS[name]())
        for parameter in task.teacher.network.parameters():
            parameter.requires_grad_(True)  # even then
        step = task(next(batches()))
        sum(step.terms.values()).backward()
        assert all(parameter.grad is None for parameter in task.teacher.network.parameters())
        assert all(parameter.grad is not None for parameter in task.network.parameters())

    def test_logits_and_terms_are_float32_under_autocast(self, make, name):
        task = make(METHODS[name]())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step = task(next(batches()))
        assert step.logits.dtype == torch.float32
        assert all(term.dtype == torch.float32 and term.dim() == 0 for term in step.terms.values())


class TestStudent:
    def test_the_example_leaves_no_trace(self, build):
        """Its statistics are those of a network that never saw an image, and it is ready to train."""
        student, fresh = build(), build()
        Distillation(student, Teacher(build(seed=1)), Hint(Base()), torch.rand(2, 1, 8, 8), LABELS, seed=0)
        assert student.training
        assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in student.state_dict().items())

    def test_each_network_normalises_in_its_own_way(self, build):
        """A teacher with another mean, fed the same images, is the teacher that saw them normalised by itself."""
        teacher = build(seed=1, mean=[0.9], std=[0.1])
        image = torch.rand(4, 1, 8, 8)
        expected, seen = teacher.eval()(image), []

        class Spy(kd.KD):
            def losses(self, batch, student, teacher):
                seen.append(teacher.logits)
                return super().losses(batch, student, teacher)

        task = Distillation(build(), Teacher(teacher), Spy(kd.Parameters()), image[:2], LABELS, seed=0)
        task(Batch(image, torch.arange(4), torch.arange(4), 1))
        torch.testing.assert_close(seen[0], expected)


class TestAdapter:
    def test_taps_of_both_networks_arrive(self, make):
        task = make(Hint(Base()))
        assert task.method.shapes == {
            "layer2": ((2, 8, 4, 4), (2, 16, 4, 4)),
            "embedding": ((2, 32), (2, 64)),
        }
        assert set(Hint.features) <= set(TAPS)

    def test_trained_beside_the_student(self, make):
        task = make(Hint(Base()))
        before = task.method.adapter.weight.detach().clone()
        assert {id(p) for p in task.method.parameters()} < {id(p) for p in task.parameters()}
        train(task)
        assert not torch.equal(task.method.adapter.weight, before)

    def test_part_of_the_checkpoint_but_not_of_the_network(self, make):
        task, other = make(Hint(Base())), make(Hint(Base()))
        train(task)
        assert "method.adapter.weight" in task.state_dict()
        other.load_state_dict(task.state_dict())
        assert torch.equal(other.method.adapter.weight, task.method.adapter.weight)
        assert not any("adapter" in key for key in task.network.state_dict())


class TestGenerator:
    def test_the_checkpoint_continues_its_stream(self, make):
        task, other = make(METHODS["mixup"]()), make(METHODS["mixup"]())
        train(task)
        other.load_state_dict(task.state_dict())
        following = [t.method.view(next(batches()), t._generator).mixing for t in (task, other)]
        assert following[0] == following[1]


class TestMethods:
    Y = torch.tensor([0, 1, 2, 3])

    def batch(self, epoch=1):
        return Batch(torch.zeros(4, 1, 8, 8), self.Y, torch.arange(4), epoch)

    def outputs(self, seed):
        return Outputs(torch.randn(4, 10, generator=torch.Generator().manual_seed(seed)))

    def test_kd_weights_its_terms(self):
        student, teacher = self.outputs(0), self.outputs(1)
        keys = kd.Parameters(temperature=2.0, label_weight=0.3, distillation_weight=0.6)
        terms = kd.KD(keys).losses(self.batch(), student, teacher)
        torch.testing.assert_close(terms["cross_entropy"], 0.3 * F.cross_entropy(student.logits, self.Y))
        torch.testing.assert_close(terms["distillation"], 0.6 * kd.kd(student.logits, teacher.logits, 2.0))

    @pytest.mark.parametrize(("warmup", "epoch", "growth"), [(0.5, 5, 0.25), (0.5, 40, 1), (0.0, 1, 1), (0.025, 1, 1)])
    def test_dkd_grows_in_its_share_of_40_epochs(self, warmup, epoch, growth):
        student, teacher = self.outputs(0), self.outputs(1)
        keys = dkd.Parameters(alpha=2.0, beta=5.0, temperature=3.0, label_weight=0.7, warmup=warmup)
        terms = dkd.DKD(keys, epochs=40).losses(self.batch(epoch), student, teacher)
        torch.testing.assert_close(terms["cross_entropy"], 0.7 * F.cross_entropy(student.logits, self.Y))
        whole = dkd.dkd(student.logits, teacher.logits, self.Y, 2.0, 5.0, 3.0)
        torch.testing.assert_close(terms["target"] + terms["non_target"], growth * whole)


class TestOptions:
    """Mixup and label smoothing are options of every method that can do with them."""

    def test_mixup_reaches_both_networks_and_the_labels(self, make, build):
        class Keep(kd.KD):
            def losses(self, batch, student, teacher):
                self.batch = batch
                return super().losses(batch, student, teacher)

        task = make(Keep(kd.Parameters(), Distilling(mixup=1.0)))
        plain = next(batches())
        term = task(plain).terms["cross_entropy"]
        mixed = task.method.batch
        assert 0.5 <= mixed.mixing < 1 and not torch.equal(mixed.images, plain.images)
        logits = task.network(mixed.images)
        own, partner = (F.cross_entropy(logits, labels) for labels in (mixed.labels, mixed.partner_labels))
        torch.testing.assert_close(term, 0.1 * (mixed.mixing * own + (1 - mixed.mixing) * partner))

    @pytest.mark.parametrize("stage", ["dkd,mixup=1", "mixup,mixup=0.5"])
    def test_a_method_that_cannot_says_so(self, stage):
        package = Path(kdq.__file__).parent
        grammar = Grammar(find_stages(package), {"teacher": {}, "student": {}}, {})
        with pytest.raises(UserError, match="mixup: found .*: (DKD splits|this method mixes)"):
            grammar.parse(f"teacher/{stage}")

    def test_labels_that_are_not_used_are_not_smoothed(self):
        package = Path(kdq.__file__).parent
        grammar = Grammar(find_stages(package), {"teacher": {}, "student": {}}, {})
        recipe = grammar.parse("teacher/mixup,label_smoothing=0.1")
        with pytest.raises(UserError, match="label_smoothing: found 0.1 beside labels=none, expected labels=mixed"):
            grammar.resolve(recipe.last)
        assert grammar.resolve(grammar.parse("teacher/mixup,label_smoothing=0.1,labels=mixed").last)
