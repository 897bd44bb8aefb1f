"""The Gram matrix of quantized inputs, from products of their codes."""

import copy

import pytest
import torch
from torch import nn

from kdq.models.activations import fake_quantized
from kdq.models.codes import Point
from kdq.quantize.execution.network import quantize
from kdq.quantize.gram import calibration, integers
from kdq.quantize.quantizer import quantizer_of
from tests.deploy.conftest import images, network_of  # noqa: F401, a fixture
from tests.quantize.test_network import CONVOLUTIONS


@pytest.fixture
def products(monkeypatch):
    """Use products of int8 on any processor; return the shapes of their factors."""
    shapes, multiply = [], torch._int_mm
    monkeypatch.setattr(integers, "fast_int8", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (shapes.append(tuple(a.shape)), multiply(a, b))[1])
    return shapes


def problem(layer, scale=1.0, zero_point=77, bits=8):
    """Return float inputs, their values at a point, and the point."""
    shape = (5, 3, 6) if isinstance(layer, nn.Linear) else (5, 6, 8, 7)
    generator = torch.Generator().manual_seed(0)
    analog = scale * 2**bits * torch.randn(shape, generator=generator)
    point = Point(("layer",), bits, torch.tensor(scale), zero_point)
    return analog, fake_quantized(analog, point.scale, zero_point, bits), point


@pytest.mark.parametrize("zero_point", [0, 77, 255])
@pytest.mark.parametrize("chunk_bytes", [3000, 2**26])
@pytest.mark.parametrize("sampling", ["all", "paper", 50])
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_integers_are_those_of_float64(products, layer, sampling, chunk_bytes, zero_point):
    analog, quantized, point = problem(layer, zero_point=zero_point)
    parts = analog.split(2), quantized.split(2)
    expected = calibration.gram_matrices(layer, *parts, sampling, 3, chunk_bytes)
    assert not products
    actual = calibration.gram_matrices(layer, *parts, sampling, 3, chunk_bytes, point)
    assert all(map(torch.equal, actual, expected))
    by_shifts = calibration.Calibration(layer, *parts, sampling).by_shifts
    assert bool(products) == (integers.apply_to(layer, point) and not by_shifts)


def test_the_most_rows_at_once_do_not_overflow():
    codes = torch.full((2, integers.ROWS), -128, dtype=torch.int8)
    point = Point(("layer",), 8, torch.tensor(1.0), 255)
    expected = torch.full((1, 2, 2), 2 * integers.ROWS * 255.0**2, dtype=torch.float64)
    assert integers.gram_matrix([codes, codes], point).equal(expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_any_scale(products, bits):
    layer = nn.Linear(6, 4)
    analog, quantized, point = problem(layer, 0.0371, 2, bits)
    cross, gram = calibration.gram_matrices(layer, analog, quantized, point=point)
    expected = calibration.gram_matrices(layer, analog, quantized)
    assert products and cross.equal(expected[0])
    assert torch.allclose(gram, expected[1], rtol=1e-6) and not gram.equal(expected[1])


@pytest.mark.parametrize("method", ["gpfq", "gptq", "qronos"])
@pytest.mark.parametrize("patches", ["all", 512])
def test_a_network_gets_the_same_codes(products, network_of, monkeypatch, method, patches):  # noqa: F811
    """With a ResNet-50: most of its convolutions are 1 x 1.

    In float64 the values of codes are rounded to float32 first, 5e-9 of the matrix, which decides between two codes of
    Qronos now and then; all that follow depend on it.
    """
    keys = {"bits": 4, "activations": 8, "patches": patches, "scale": "mse"}
    results = []
    for fast in (True, False):
        monkeypatch.setattr(integers, "fast_int8", lambda fast=fast: fast)
        quantizer, network = (
            quantizer_of(f"kdq.quantize.methods.{method}", keys, 0),
            copy.deepcopy(network_of("resnet50")),
        )
        results.append(quantize(network, images(16), quantizer, log=lambda line: None))
        assert products
    by_integers, by_floats = results
    same = [by_integers[name].codes == by_floats[name].codes for name in by_floats]
    share = torch.cat([codes.flatten() for codes in same]).double().mean()
    assert share == 1 or (method == "qronos" and share > 0.95)
