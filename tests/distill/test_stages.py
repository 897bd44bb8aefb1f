"""Networks with different numbers of stages: every method that compares features finds the stages that correspond."""

import pytest
import torch
from torch import nn

from kdq.data.batches import Batch
from kdq.distill.methods import at, crd, fitnet, ntk, pkt, reviewkd, rkd, sp
from kdq.distill.outputs import Outputs
from kdq.distill.stages import deepest_stages
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.models.network import Network

LABELS = torch.arange(20) % 10
METHODS = {
    "at": lambda: at.AttentionTransfer(at.Parameters()),
    "sp": lambda: sp.SimilarityPreserving(sp.Parameters()),
    "rkd": lambda: rkd.RKD(rkd.Parameters()),
    "pkt": lambda: pkt.PKT(pkt.Parameters()),
    "crd": lambda: crd.CRD(crd.Parameters()),
    "reviewkd": lambda: reviewkd.ReviewKD(reviewkd.Parameters(warmup=0.0)),
    "ntk": lambda: ntk.NTK(ntk.Parameters(probes=2)),
    "fitnet": lambda: fitnet.FitNet(fitnet.Parameters(hint="layer2")),
}


class Block(nn.Sequential):
    """A convolution that halves the image, and a BatchNorm, without activation."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False), nn.BatchNorm2d(outputs))

    def preactivation(self, x):
        return super().forward(x)

    def forward(self, x):
        return self.preactivation(x).relu()


class TwoStages(Network):
    """A network with two stages of one block each and a classifier of another name."""

    stages = ("layer1", "layer2")
    classifier_name = "classifier"

    def __init__(self):
        super().__init__([0.3], [0.4])
        torch.manual_seed(2)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.layer1, self.layer2 = nn.Sequential(Block(4, 8)), nn.Sequential(Block(8, 12))
        self.classifier = nn.Linear(12, 10)

    def stem(self, x):
        return self.first(x).relu()


@pytest.fixture
def networks(build):
    """A ResNet and a network of two stages, or in the other order."""
    return lambda reverse: (TwoStages(), build(seed=1)) if reverse else (build(), TwoStages())


@pytest.mark.parametrize("reverse", [False, True], ids=["shallow teacher", "shallow student"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_the_whole_student(name, reverse, networks):
    student, teacher = networks(reverse)
    task = Distillation(student, Teacher(teacher), METHODS[name](), torch.rand(2, 1, 8, 8), LABELS, seed=0)
    step = task(Batch(torch.rand(8, 1, 8, 8), LABELS[:8], torch.arange(8), 1))
    assert all(term.isfinite() for term in step.terms.values())
    sum(step.terms.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in task.parameters())


def test_the_deepest_stages_correspond(build):
    assert deepest_stages(build(), TwoStages()) == (("layer3", "layer4"), ("layer1", "layer2"))
    assert deepest_stages(TwoStages(), build()) == (("layer1", "layer2"), ("layer3", "layer4"))


def test_the_review_reads_the_teacher_before_its_activations(build):
    student, teacher = METHODS["reviewkd"]().taps(build(), TwoStages())
    assert student == ("layer3", "layer4", "embedding")
    assert teacher == ("layer1.preactivation", "layer2.preactivation", "embedding")


def test_similarities_are_those_of_the_last_stages(networks):
    student, teacher = networks(False)
    images = torch.rand(4, 1, 8, 8)
    method = METHODS["sp"]()
    taps = method.taps(student, teacher)
    sides = [Outputs.of(network, images, tap) for network, tap in zip((student, teacher), taps, strict=True)]
    term = method.losses(Batch(images, LABELS[:4], torch.arange(4), 1), *sides)["distillation"]
    features = student(images, taps=("layer4",))[1]["layer4"], teacher(images, taps=("layer2",))[1]["layer2"]
    expected = 3000 * sp.sp(*features)
    torch.testing.assert_close(term, expected)


@pytest.mark.parametrize("hint", ["layer3", "layer22"])
def test_a_hint_that_not_both_have_is_refused(hint, networks):
    method = fitnet.FitNet(fitnet.Parameters(hint=hint))
    with pytest.raises(UserError, match=f"^fitnet: hint: found '{hint}', expected a stage of both .*: layer1, layer2"):
        method.taps(*networks(False))


@pytest.mark.parametrize("name", ["at", "sp", "reviewkd", "fitnet"])
def test_a_network_without_stages_is_refused(name, build):
    with pytest.raises(UserError, match="^a network of the kind Linear gives no features, logits alone; expected"):
        METHODS[name]().taps(build(), nn.Linear(2, 2))
