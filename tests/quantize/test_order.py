"""Layers in any order, each at its own bits: in that of execution it is the one pass, in others X~ is what it is."""

import pytest
import torch

from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from tests.quantize.small import ORDER, network, part, silent

MIXED = dict(zip(ORDER, (5, 2, 3, 4, 8), strict=True))


def of(name, **keys):
    return quantizer_of(f"kdq.quantize.methods.{name}", keys, 0)


@pytest.mark.parametrize("module", ["gpfq", "rtn"])
def test_every_layer_has_its_own_bits(module):
    model = network()
    layers = quantize(model, part().images, of(module), log=silent, bits=MIXED)
    for name, layer in layers.items():
        assert (layer.facts["bits"], layer.high) == (MIXED[name], 2 ** (MIXED[name] - 1) - 1)
        assert layer.codes.max() <= layer.high and model.get_submodule(name).weight.unique().numel() > 2


def ordered(order, module="gpfq", model=None, bits=MIXED, **keys):
    quantizer = of(module, **keys)
    return quantize(model or network(), part().images, quantizer, seed=3, log=silent, bits=bits, order=order)


@pytest.mark.parametrize("patches", ["all", "paper", 100])
@pytest.mark.parametrize("batchnorm", ["keep", "reestimate"])
@pytest.mark.parametrize("module", ["gpfq", "rtn"])
def test_in_the_order_of_execution_it_equals_one_pass(module, batchnorm, patches):
    keys = {"patches": patches, "batchnorm": batchnorm}
    one, other = network(), network()
    passed = quantize(one, part().images, of(module, **keys), seed=3, log=silent, bits=MIXED)
    found = ordered(ORDER, module, other, **keys)
    assert list(found) == list(passed) == ORDER
    for name, layer in found.items():
        assert layer.codes.equal(passed[name].codes) and layer.step.equal(passed[name].step)
        assert layer.facts == passed[name].facts
    assert all(value.equal(one.state_dict()[name]) for name, value in other.state_dict().items())


def test_a_layer_sees_only_what_is_quantized_by_then():
    """Last to first, every layer still gets the float network's inputs, as where it is quantized alone."""
    backward = ordered(ORDER[::-1])
    for name, layer in backward.items():
        alone = network()
        others = [other for other in ORDER if other != name]
        assert ordered([name, *others], model=alone)[name].codes.equal(layer.codes)
    assert not backward["fc"].codes.equal(ordered(ORDER)["fc"].codes)


def test_rounding_does_not_depend_on_the_order_where_the_scale_is_given():
    forward, backward = (ordered(order, "rtn", scale=1.0) for order in (ORDER, ORDER[::-1]))
    assert list(backward) == ORDER
    assert all(forward[name].codes.equal(backward[name].codes) for name in ORDER)


def test_the_model_computes_with_the_codes_in_any_order():
    model = network()
    for name, layer in ordered(["fc", "wide", "stem", "shortcut", "grouped"], model=model).items():
        assert model.get_submodule(name).weight.equal(layer.decode())
    assert torch.isfinite(model(part().images / 255)).all()


@pytest.mark.parametrize("order", [ORDER[1:], [*ORDER, "fc"], [*ORDER[1:], "bn"]])
def test_an_order_of_other_layers_is_refused(order):
    with pytest.raises(ValueError, match="order: .* expected each of"):
        ordered(order)
