"""Networks with different numbers of stages: every method that compares features finds the stages that correspond."""

import pytest
import torch
from torch import nn

from kdq.data.batches import Batch
from kdq.distill.methods import at, crd, dml, fitnet, ntk, pkt, reviewkd, rkd, sp
from kdq.distill.outputs import Outputs
from kdq.distill.stages import deepest_stages
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.models import registry

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


PAIRS = [("resnet18", "wrn10-1"), ("wrn10-1", "resnet18"), ("resnet18", "mobilenetv2"), ("mobilenetv2", "wrn10-1")]


def build(architecture, seed=0):
    torch.manual_seed(seed)
    statistics = {"mean": [0.3], "std": [0.4]}
    return registry.build(architecture, classes=10, channels=1, stem="cifar", width=0.125, **statistics)


@pytest.mark.parametrize("pair", PAIRS, ids=" from ".join)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_the_whole_student(name, pair):
    student, teacher = build(pair[0]), Teacher(build(pair[1], seed=1))
    task = Distillation(student, teacher, METHODS[name](), torch.rand(2, 1, 8, 8), LABELS, seed=0)
    step = task(Batch(torch.rand(8, 1, 8, 8), LABELS[:8], torch.arange(8), 1))
    assert all(term.isfinite() for term in step.terms.values())
    sum(step.terms.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in task.parameters())


@pytest.mark.parametrize("architecture", ["wrn10-1", "mobilenetv2"])
def test_a_fresh_peer_is_of_the_parents_architecture(architecture):
    parent = build(architecture)
    peer = dml.DML(dml.Parameters(start="fresh")).peer(parent)
    assert peer.architecture == parent.architecture
    assert not torch.equal(next(peer.parameters()), next(parent.parameters()))


def test_the_deepest_stages_correspond():
    shallow, deep = build("wrn10-1"), build("resnet18")
    assert deepest_stages(deep, shallow) == (("layer2", "layer3", "layer4"), ("layer1", "layer2", "layer3"))
    assert deepest_stages(shallow, deep) == (("layer1", "layer2", "layer3"), ("layer2", "layer3", "layer4"))


def test_the_review_reads_the_teacher_before_its_activations():
    student, teacher = METHODS["reviewkd"]().taps(build("resnet18"), build("wrn10-1"))
    assert student == ("layer2", "layer3", "layer4", "embedding")
    assert teacher == ("layer1.preactivation", "layer2.preactivation", "layer3.preactivation", "embedding")


def test_similarities_are_those_of_the_last_stages():
    networks, images, method = (build("resnet18"), build("wrn10-1")), torch.rand(4, 1, 8, 8), METHODS["sp"]()
    taps = method.taps(*networks)
    assert taps == (("layer4",), ("layer3",))
    sides = [Outputs.of(network, images, names) for network, names in zip(networks, taps, strict=True)]
    term = method.losses(Batch(images, LABELS[:4], torch.arange(4), 1), *sides)["distillation"]
    expected = 3000 * sp.sp(sides[0].features["layer4"], sides[1].features["layer3"])
    torch.testing.assert_close(term, expected)


@pytest.mark.parametrize("hint", ["layer4", "layer22"])
def test_a_hint_that_not_both_have_is_refused(hint):
    method = fitnet.FitNet(fitnet.Parameters(hint=hint))
    expected = f"^fitnet: hint: found '{hint}', expected a stage of both networks: layer1, layer2, layer3"
    with pytest.raises(UserError, match=expected):
        method.taps(build("resnet18"), build("wrn10-1"))


@pytest.mark.parametrize("name", ["at", "sp", "reviewkd", "fitnet"])
def test_a_network_without_stages_is_refused(name):
    with pytest.raises(UserError, match="^the network of the kind Linear gives no feature maps of several sizes; "):
        METHODS[name]().taps(build("resnet18"), nn.Linear(2, 2))
