"""The outputs that a ReLU passes on, against the network itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdq.quantize.execution.rectifiers import passed_outputs


class Net(nn.Module):
    """A ReLU behind every kind of layer: with and without BatchNorm, as function, method and module; and none."""

    def __init__(self):
        super().__init__()
        self.normed, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.biased, self.plain, self.module = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 1, bias=False), nn.ReLU()
        self.added, self.twice, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.normed(x)))
        x = self.module(self.plain(self.biased(x).relu()))
        x = (x + self.added(x)).relu()
        return self.last(self.twice(self.twice(x).relu()).relu().mean((2, 3)))


def net(affine=True):
    torch.manual_seed(0)
    model = Net()
    model.norm = nn.BatchNorm2d(6, affine=affine)
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    if affine:
        model.norm.weight.data = torch.tensor([1.0, -2.0, 0.0, 0.5, -0.1, 3.0])
        model.norm.bias.data.normal_()
    return model.eval()


@pytest.mark.parametrize("affine", [True, False])
@torch.no_grad()
def test_a_change_of_other_outputs_changes_nothing(affine):
    model = net(affine)
    bounds = passed_outputs(model, dict(model.named_modules()))
    assert bounds.keys() == {"normed", "biased", "plain"}
    outputs = 3 * torch.randn(50, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    low, high = (bound.float().view(-1, 1, 1) for bound in bounds["normed"])
    bias = model.normed.bias.view(-1, 1, 1)
    behind, clamped = (F.relu(model.norm(y + bias)) for y in (outputs, outputs.clamp(low, high)))
    torch.testing.assert_close(behind, clamped, atol=1e-5, rtol=1e-5)
    passed = (outputs > low) & (outputs < high)
    gain = model.norm.weight if affine else torch.ones(6)
    live = gain != 0
    assert ((behind > 1e-5) <= passed)[:, live].all() and (passed <= (behind > 0))[:, live].all()
    assert not passed[:, live].all() and passed[:, ~live].all()


def test_without_a_norm_the_bound_is_the_bias():
    model = net()
    bounds = passed_outputs(model, dict(model.named_modules()))
    assert bounds["biased"][0].equal(-model.biased.bias.double()) and (bounds["biased"][1] == torch.inf).all()
    assert not bounds["plain"][0].any()


def test_of_a_resnet_they_are_the_first_convolutions(build):
    """Those in front of an addition are read by it, not by the ReLU behind it."""
    model = build().eval()
    expected = {name for name, _ in model.named_modules() if name.endswith("conv1")}
    assert passed_outputs(model, dict(model.named_modules())).keys() == expected and len(expected) == 9


def test_a_network_that_cannot_be_traced_has_none():
    class Branching(nn.Sequential):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    model = Branching(nn.Linear(3, 3), nn.ReLU())
    assert passed_outputs(model, dict(model.named_modules())) == {}
