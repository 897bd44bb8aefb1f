"""Published kinds of classifier, small and random: each is quantized, whatever its layers are, and decoded."""

import copy

import pytest
import torch
from torch import nn

from kdq.models import archive, load, plain_layers
from kdq.models import file as model_file
from kdq.quantize.execution.network import quantize
from kdq.quantize.execution.selection import NEVER_CALLED
from kdq.quantize.quantizer import quantizer_of
from tests.models.classifiers import TORCHVISION, TRANSFORMERS, torchvision_classifier, transformers_classifier

ANOTHER_BIAS = "its weight is used by a function with another bias"
# Layers that stay float, by a part of their names; all other layers are quantized.
KEPT = {
    "googlenet": {"aux": NEVER_CALLED},
    "inception_v3": {"AuxLogits": NEVER_CALLED},
    "swin_v2_t": {".qkv": ANOTHER_BIAS},  # the bias without its part for the keys
}
# Further layers than the network's own: an attention's three projections, of which its output's is one already.
PROJECTIONS = {"siglip": 3, "vit_b_16": 6}


def gpfq(network, pictures, **keys):
    lines = []
    with torch.no_grad():
        before = network(pictures.float() / 255)
        quantizer = quantizer_of("kdq.quantize.methods.gpfq", {"scale": "mse", **keys}, 0)
        codes = quantize(network, pictures, quantizer, log=lines.append)
        return codes, lines, before, network(pictures.float() / 255)


def check(name, network, layers, codes, lines, before, after):
    expected = KEPT.get(name, {})
    for layer, facts in codes.kept.items():
        assert any(part in layer and facts["reason"] == reason for part, reason in expected.items()), layer
        assert f"{layer}: stays float, {facts['reason']}" in lines
        assert facts["weights"] == network.get_submodule(layer).weight.numel()
    assert bool(codes.kept) == bool(expected)
    assert len(codes) + len(codes.kept) == layers + PROJECTIONS.get(name, 0)
    assert 0 < (after - before).norm() < 0.5 * before.norm()


def count(network):
    return sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_classifier_of_transformers_and_its_files(tmp_path, name):
    network, architecture, pictures = transformers_classifier(name)
    layers, batch = count(network), pictures.float() / 255
    codes, *rest, after = gpfq(network, pictures)
    check(name, network, layers, codes, *rest, after)
    path, packed = tmp_path / "model.safetensors", tmp_path / "model.archive.safetensors"
    model_file.save(path, network, architecture, codes, keys={})
    archive.pack(path, packed)
    assert model_file.read(path).codes.kept == archive.read(packed).codes.kept == codes.kept
    with torch.no_grad():
        assert load(path)(batch).equal(after) and load(packed)(batch).equal(after)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_classifier_of_torchvision(name):
    network, pictures = torchvision_classifier(name)
    layers, decoded = count(network), plain_layers.replace(copy.deepcopy(network))
    codes, *rest, after = gpfq(network, pictures)
    check(name, network, layers, codes, *rest, after)
    for layer, weight in codes.items():
        decoded.get_submodule(layer).weight.data = weight.decode()
    with torch.no_grad():
        assert decoded(pictures.float() / 255).equal(after)
