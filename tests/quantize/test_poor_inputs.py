"""Inputs that tell little about the weights: constant, zero or of rank one, for every quantizer."""

import pytest
import torch
from torch import nn

from kdq.quantize.bits import scale
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from tests.quantize.small import silent

METHODS = ("gpfq", "gptq", "qronos", "spfq", "sparse", "adaround", "brecq", "rtn")


class Fed(nn.Module):
    """A convolution and a linear layer whose inputs ``feed`` makes of the images."""

    def __init__(self, feed, groups=1):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 8, 3, padding=1, groups=groups)
        self.fc, self.feed = nn.Linear(12, 5), feed

    def forward(self, x):
        x = self.feed(x)
        flat = x.flatten(1)[:, :12]
        return self.fc(flat) + self.conv(x).mean((1, 2, 3))[:, None]


def constant(x):
    return 0 * x[:, :1].expand(-1, 4, -1, -1) + torch.tensor([1.0, -0.5, 2.0, 0.3])[:, None, None]


def zero(x):
    return 0 * x[:, :1].expand(-1, 4, -1, -1)


def rank_one(x):
    """One picture, times a number per image."""
    pattern = torch.linspace(-1, 1, 4 * 36).view(1, 4, 6, 6)
    return x.mean((1, 2, 3), keepdim=True) * pattern


def dead_channel(x):
    return torch.cat([x, x[:, :1] * 0], 1)


IMAGES = torch.randint(0, 256, (40, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def run(model, method, **keys):
    return quantize(model, IMAGES, quantizer_of(f"kdq.quantize.methods.{method}", keys, 0), log=silent)


@pytest.mark.parametrize("residuals", [True, False])
@pytest.mark.parametrize("keys", [{}, {"scale": "search"}, {"scale": 0.9, "granularity": "layer"}], ids=str)
@pytest.mark.parametrize("feed", [constant, zero, rank_one, dead_channel])
@pytest.mark.parametrize("method", METHODS)
def test_every_quantizer_gives_finite_weights_and_small_errors(monkeypatch, method, feed, keys, residuals):
    monkeypatch.setattr(scale, "prefers_residuals", lambda *arguments: residuals)
    keys = keys | ({"iterations": 50} if method in ("adaround", "brecq") else {})
    model = Fed(feed).eval()
    layers = run(model, method, bits=6, **keys)
    assert set(layers) == {"conv", "fc"}
    for name, layer in layers.items():
        assert layer.step.isfinite().all() and (layer.step > 0).all() and layer.decode().isfinite().all(), name
        assert 0 <= layer.facts["relative_error"] < 0.25, name
    assert model(IMAGES / 255).isfinite().all()


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("method", METHODS)
def test_weights_that_only_zeros_reach_are_rounded_to_the_nearest(method, granularity):
    model, before = Fed(zero).eval(), Fed(zero)
    layers = run(
        model,
        method,
        bits=6,
        granularity=granularity,
        scale="search",
        **({"iterations": 5} if method in ("adaround", "brecq") else {}),
    )
    for name, layer in layers.items():
        weight, step = before.get_submodule(name).weight.detach(), layer.step.view(-1, *[1] * (layer.codes.dim() - 1))
        nearest = (weight.double() / step.double() + 0.5).floor().clamp(-32, 31).to(torch.int16)
        assert layer.codes.equal(nearest), name
        assert (layer.decode() - weight).norm() < 0.06 * weight.norm(), name


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_group_is_rounded_and_the_others_keep_their_codes(method):
    """The fourth group of a depthwise convolution; what it gets changes nothing in the others."""
    keys = {"bits": 5, "scale": "search"} | ({"iterations": 20} if method in ("adaround", "brecq") else {})
    dead = Fed(dead_channel, groups=4).eval()
    alive = Fed(lambda x: torch.cat([x, x[:, :1]], 1), groups=4).eval()
    before, layers, expected = Fed(dead_channel, groups=4), run(dead, method, **keys), run(alive, method, **keys)
    assert layers["conv"].codes[:6].equal(expected["conv"].codes[:6])
    weight = before.conv.weight.detach()[6:]
    assert (layers["conv"].decode()[6:] - weight).norm() < 0.1 * weight.norm()
