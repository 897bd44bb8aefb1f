"""Fewer patches than chunks of images, so that none is drawn from some of them."""

import pytest
import torch

from kdq.quantize.bits import scale
from kdq.quantize.execution import network as execution
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from tests.quantize.small import network, part, silent

IMAGES = part(100).images
METHODS = ("gpfq", "gptq", "qronos", "spfq", "sparse", "adaround", "rtn")


def codes(method="gpfq", **keys):
    model = network()
    return quantize(model, IMAGES, quantizer_of(f"kdq.quantize.methods.{method}", keys, 0), log=silent)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("patches", [1, 3])
@pytest.mark.parametrize("memory", [4.0, 1e-6])
def test_codes_are_those_of_all_images_in_one_chunk(monkeypatch, method, patches, memory):
    keys = {"patches": patches, "scale": 0.9}
    chunked = codes(method, memory=memory, **keys)
    monkeypatch.setattr(execution, "CHUNK", len(IMAGES))
    whole = codes(method, **keys)
    assert all(layer.codes.equal(whole[name].codes) for name, layer in chunked.items())
    assert all(layer.step.equal(whole[name].step) for name, layer in chunked.items())


@pytest.mark.parametrize("residuals", [True, False])
def test_from_residuals_and_from_gram_matrices(monkeypatch, residuals):
    monkeypatch.setattr(scale, "prefers_residuals", lambda *arguments: residuals)
    few = codes(patches=2)
    assert all(layer.codes.any() and layer.step.isfinite().all() for layer in few.values())
    assert all(torch.isfinite(torch.tensor(layer.facts["relative_error"])) for layer in few.values())
