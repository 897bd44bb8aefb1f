"""Multiply-accumulates and bit-operations: against torch's counter, the laws of cost, and by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdq.evaluate.stage import evaluate
from kdq.evaluate.work import macs_per_layer, work
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.cost import law

ARCHITECTURES = ("resnet18", "resnet50", "wrn16-2", "mobilenetv2", "vgg16_bn")


def network_of(architecture="resnet18", width=0.25):
    arguments = {"classes": 10, "channels": 3, "stem": "cifar", "mean": [0.4] * 3, "std": [0.3] * 3}
    return registry.build(architecture=architecture, width=width, **arguments).eval()


def codes_of(network, bits=4, left_out=(), activations=0) -> Codes:
    """Codes of all layers but those ``left_out``, which stay float; each layer's input is a point of its own."""
    codes = Codes(kept={name: {"weights": 1, "reason": "keep"} for name in left_out})
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name not in left_out:
            zeros, step = torch.zeros(module.weight.shape, dtype=torch.int16), torch.ones(len(module.weight))
            codes[name] = QuantizedWeight(zeros, step, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, bits, {"bits": bits})
    codes.points = [Point((name,), activations, torch.tensor(0.1), 0) for name in codes] if activations else ()
    return codes


IMAGE = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_macs_are_half_of_what_torch_counts(architecture):
    network = network_of(architecture)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert work(network, IMAGE, Codes())["macs"] == flops.get_total_flops() // 2


def test_macs_are_those_that_planning_estimates_times_by():
    square, linear = law("resnet18", "cifar")["multiply_adds"]
    width = 0.25
    expected = 32 * 32 * (square * width**2 + linear * width) + 10 * 512 * width
    assert work(network_of(width=width), IMAGE, Codes())["macs"] == pytest.approx(expected, rel=1e-9)


def test_a_layer_that_runs_twice_counts_twice_and_groups_share_the_inputs():
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    assert macs_per_layer(nn.Sequential(layer, layer), torch.zeros(1, 4, 5, 5)) == {"0": 2 * 25 * 4 * 2 * 9}


class TestBitOperations:
    def test_of_a_float_network_are_1024_times_its_macs(self):
        counts = work(network_of(), IMAGE, Codes())
        assert counts["bit_operations"] == 1024 * counts["macs"] and counts["activation_bits"] == 32

    @pytest.mark.parametrize(("bits", "activations", "each"), [(4, 8, 32), (2, 4, 8), (2, 0, 64)])
    def test_are_macs_times_both_bits(self, bits, activations, each):
        network = network_of()
        counts = work(network, IMAGE, codes_of(network, bits, activations=activations))
        assert counts["bit_operations"] == each * counts["macs"]
        assert counts["activation_bits"] == (activations or 32)

    def test_a_layer_that_stays_float_counts_as_float(self):
        network = network_of()
        macs = macs_per_layer(network, IMAGE.float())
        kept = macs["conv1"] + macs["fc"]
        counts = work(network, IMAGE, codes_of(network, 4, ("conv1", "fc"), 8))
        assert counts["bit_operations"] == 32 * (counts["macs"] - kept) + 1024 * kept

    def test_a_quantized_layer_whose_input_is_no_point_multiplies_floats(self):
        network = network_of()
        codes = codes_of(network, 4, activations=8)
        codes.points = [point for point in codes.points if point.name != "conv1"]
        first = macs_per_layer(network, IMAGE.float())["conv1"]
        counts = work(network, IMAGE, codes)
        assert counts["bit_operations"] == 32 * (counts["macs"] - first) + 4 * 32 * first


def test_the_evaluation_counts_the_network_that_was_trained_and_not_the_folded_one(few, tmp_path):
    """Folding removes BatchNorm's parameters; two models of one network have one number of them."""
    arguments = {"architecture": "resnet18", "classes": 10, "channels": 1, "stem": "cifar", "width": 0.0625}
    arguments |= {"mean": [0.3], "std": [0.4]}
    header = {"recipe": "hard/rtn", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
    metrics = {}
    for activations in (0, 8):
        network = registry.build(**arguments).eval()
        codes = codes_of(network, 4, activations=activations)
        path = tmp_path / f"{activations}.safetensors"
        model_file.save(path, network, arguments, codes, **header)
        metrics[activations] = evaluate(model_file.read(path), path, few, None, torch.device("cpu"))[0]
    assert metrics[8]["parameters"] == metrics[0]["parameters"] == sum(p.numel() for p in network.parameters())
    assert metrics[8]["macs"] == metrics[0]["macs"]
    assert (metrics[8]["activation_bits"], metrics[0]["activation_bits"]) == (8, 32)
    assert metrics[8]["bit_operations"] * 4 == metrics[0]["bit_operations"] == 128 * metrics[0]["macs"]
