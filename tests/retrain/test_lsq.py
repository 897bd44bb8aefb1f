"""Learned steps: gradients of the explicit formula, and exact codes at both ends."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq import models
from kdq.models import file as model_file
from kdq.models.codes import QuantizedWeight
from kdq.quantize.bits.alphabet import Alphabet
from kdq.retrain.lsq import LEAST, LearnedStep, attach, detach, lsq

ALPHABETS = [Alphabet(2), Alphabet(2, "2^b-1"), Alphabet(3), Alphabet(4, "paper"), Alphabet(8)]
HEADER = {"recipe": "hard/rtn", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


def explicit(weight, step, low, high):
    """The paper's formula in torch's own operations, with the two tricks of straight-through code."""
    gradient_scale = (step.numel() / (weight.numel() * high)) ** 0.5
    step = step * gradient_scale + (step - step * gradient_scale).detach()
    clipped = (weight / step).clamp(low, high)
    return (clipped + (clipped.round() - clipped).detach()) * step


def drawn(seed, rows, steps):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, 3, 2, 2, generator=generator, dtype=torch.float64)
    step = 0.1 + torch.rand(steps, 1, 1, 1, generator=generator, dtype=torch.float64)
    return weight.requires_grad_(), step.requires_grad_(), torch.randn(weight.shape, generator=generator).double()


class TestGradients:
    @given(st.integers(0, 10**6), st.sampled_from(ALPHABETS), st.booleans())
    def test_are_those_of_the_explicit_formula(self, seed, alphabet, per_row):
        weight, step, incoming = drawn(seed, 4, 4 if per_row else 1)
        outputs = [quantize(weight, step, alphabet.low, alphabet.high) for quantize in (lsq, explicit)]
        torch.testing.assert_close(*outputs)
        gradients = [torch.autograd.grad(output, (weight, step), incoming) for output in outputs]
        for found, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(found, expected)

    def test_of_a_step_are_the_error_within_and_the_last_code_beyond(self):
        """Worked by hand: codes 1, 1 and -2 of ratios 0.7, 3 and -5; three weights, high 1."""
        weight, step = torch.tensor([[0.7, 3.0, -5.0]]).double(), torch.ones(1, 1).double().requires_grad_()
        lsq(weight, step, -2, 1).sum().backward()
        assert step.grad.item() == pytest.approx((0.3 + 1 - 2) / 3**0.5)


class TestSteps:
    @pytest.mark.parametrize("driven", [0.0, -0.3, -1e6])
    def test_stay_positive_and_can_come_back(self, driven):
        codes = QuantizedWeight(torch.ones(2, 3).short(), torch.tensor([0.2, 0.4]), -2, 1, 2)
        quantizer = LearnedStep(codes, torch.device("cpu"))
        quantizer.step.data[0] = driven
        weight = torch.full((2, 3), 5.0)
        torch.testing.assert_close(quantizer.positive(), torch.tensor([LEAST * 0.2, 0.4]))
        output = quantizer(weight)
        torch.testing.assert_close(output, quantizer.positive()[:, None].expand(2, 3))
        (5 - output).square().sum().backward()
        assert (quantizer.step.grad < 0).all()  # a step against it makes the steps larger

    def test_another_alphabet_is_a_part_of_the_state(self):
        two = QuantizedWeight(torch.ones(2, 3).short(), torch.tensor([0.2, 0.4]), -2, 1, 2)
        five = QuantizedWeight(torch.ones(2, 3).short(), torch.tensor([0.1, 0.3]), -16, 15, 5)
        changed, resumed = (LearnedStep(two, torch.device("cpu")) for _ in range(2))
        changed.restart(five)
        assert (changed.low, changed.high) == (-16, 15) and torch.equal(changed.step, five.step)
        resumed.load_state_dict(changed.state_dict())
        assert (resumed.low, resumed.high) == (-16, 15) and torch.equal(resumed.least, LEAST * five.step)
        weight = torch.tensor([[5.0, 0.31, -9], [5.0, 0.31, -9]])
        assert torch.equal(resumed(weight), changed(weight))
        assert torch.equal(changed(weight)[0, 1:], five.step[0] * torch.tensor([3.0, -16]))


@pytest.fixture
def trained_like(build):
    """A network with BatchNorm statistics of its own."""
    network = build(seed=3)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(16, 1, 8, 8))
    return network.eval()


KEYS = [
    {"bits": 2},
    {"bits": 2, "levels": "2^b-1", "granularity": "layer"},
    {"bits": 3, "levels": "paper"},
    {"bits": 8, "granularity": "layer"},
]


class TestStart:
    @pytest.mark.parametrize("keys", KEYS, ids=str)
    @pytest.mark.parametrize("start", ["codes", "float"])
    def test_is_the_parent_to_the_last_bit(self, trained_like, quantized, keys, start):
        parent, images = quantized(trained_like, **keys), torch.rand(5, 1, 8, 8)
        expected = parent.network(images)
        network = attach(parent, trained_like if start == "float" else None)
        assert torch.equal(network(images), expected)
        for name, codes in detach(network, parent.codes).items():
            before = parent.codes[name]
            assert torch.equal(codes.codes, before.codes) and torch.equal(codes.step, before.step)
            assert (codes.low, codes.high, codes.storage_bits) == (before.low, before.high, before.storage_bits)
            assert codes.facts == {"bits": keys["bits"], "levels": keys.get("levels", "2^b")}
        assert torch.equal(network(images), expected)

    def test_from_codes_no_weight_is_cut_off_from_its_gradient(self, trained_like, quantized):
        network = attach(quantized(trained_like, bits=2)).train()
        for module in network.modules():
            if hasattr(module, "parametrizations"):
                module.parametrizations.weight.original.grad = None
        weights = [m.parametrizations.weight.original for m in network.modules() if hasattr(m, "parametrizations")]
        outputs = [m.weight for m in network.modules() if hasattr(m, "parametrizations")]
        gradients = torch.autograd.grad([output.sum() for output in outputs], weights)
        assert len(weights) == 21 and all((gradient == 1).all() for gradient in gradients)

    def test_from_floats_a_weight_stays_where_it_is_rounded_to_its_code(self, trained_like, quantized):
        """Rounding to nearest is what the parent was made by, so that nearly all of them do."""
        parent = quantized(trained_like, bits=3)
        network = attach(parent, trained_like)
        floats, kept = dict(trained_like.named_modules()), []
        for name, module in network.named_modules():
            if hasattr(module, "parametrizations"):
                weight = module.parametrizations.weight.original
                step = module.parametrizations.weight[0].rows(weight)
                away = (weight - floats[name].weight).abs() / step
                assert away.max() <= 0.0101
                kept.append((away < 1e-5).double().mean())
        assert torch.stack(kept).mean() > 0.9

    def test_a_layer_of_another_shape_starts_from_its_codes(self, trained_like, quantized, build):
        parent = quantized(trained_like, bits=2)
        images, expected = torch.rand(3, 1, 8, 8), copy.deepcopy(parent.network)
        assert torch.equal(attach(parent, build(width=0.125))(images), expected(images))


class TestEnd:
    @pytest.mark.parametrize("keys", KEYS, ids=str)
    def test_the_file_computes_what_was_evaluated(self, trained_like, quantized, keys, tmp_path):
        """After steps so large that codes change and some weights leave the grid."""
        parent, images = quantized(trained_like, **keys), torch.rand(6, 1, 8, 8)
        network = attach(parent, trained_like)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
        for _ in range(3):
            network.train()(images).square().sum().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        expected = network.eval()(images)
        codes = detach(network, parent.codes)
        assert any(not torch.equal(codes[name].codes, parent.codes[name].codes) for name in codes)
        path = tmp_path / "model.safetensors"
        model_file.save(path, network, parent.architecture, codes, **HEADER)
        assert torch.equal(models.load(path)(images), expected)
        assert network.state_dict().keys() == trained_like.state_dict().keys()
