"""Bias correction: means that are those of the float network, and layers that cannot hold a correction."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdq.errors import UserError
from kdq.quantize.execution import bias
from kdq.quantize.execution.network import quantize
from kdq.quantize.methods.rtn import RTN, Parameters


class Small(nn.Module):
    """A convolution without bias and its BatchNorm, one with a bias, a linear layer on positions, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, stride=2)
        self.mix, self.fc = nn.Linear(6, 7), nn.Linear(7, 4)

    def forward(self, x):
        x = functional.relu(self.bn(self.stem(x)), inplace=True)
        x = self.conv(x).relu().flatten(2).transpose(1, 2)
        return self.fc(self.mix(x).relu().mean(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = Small().eval()
    model.bn.running_mean.uniform_(-0.1, 0.1)
    model.bn.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def images():
    return torch.randint(0, 256, (10, 3, 9, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def run(model, images, **keys):
    return quantize(model, images, RTN(Parameters(bits=2, **keys)), log=lambda line: None)


def inputs_of_activations(model, images):
    """The means of what the four non-linearities and the caller get, channel by channel."""
    caught = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda layer, given, output, name=name: caught.__setitem__(name, output.clone())
        )
        for name in ("bn", "conv", "mix", "fc")
    ]
    with torch.no_grad():
        model(images.float() / 255)
    for hook in hooks:
        hook.remove()
    outputs = {name: output.movedim(1 if output.dim() == 4 else -1, 0) for name, output in caught.items()}
    return {name: output.flatten(1).mean(1) for name, output in outputs.items()}


def test_all_means_are_those_of_the_float_network(network, images):
    wanted = inputs_of_activations(network, images)
    kept, corrected = copy.deepcopy(network), copy.deepcopy(network)
    run(kept, images)
    run(corrected, images, bias="correct")
    for name, means in inputs_of_activations(corrected, images).items():
        assert torch.allclose(means, wanted[name], atol=1e-5), name
    for name, means in inputs_of_activations(kept, images).items():
        assert (means - wanted[name]).abs().max() > 1e-3, name


def test_the_correction_stands_in_biases_and_running_means_alone(network, images):
    before = copy.deepcopy(network)
    layers = run(network, images, bias="correct")
    for name, tensor in network.state_dict().items():
        changed = name.endswith("bias") and name != "bn.bias" or name in ("bn.running_mean",)
        if name.removesuffix(".weight") not in layers:
            assert tensor.equal(before.state_dict()[name]) != changed, name
    assert network.stem.bias is None


def test_nothing_is_corrected_where_nothing_has_changed(network, images):
    holders = bias.holders(network, {"fc": network.fc, "stem": network.stem}, images.float())
    assert holders["fc"][0] is network.fc.bias and holders["stem"][0] is network.bn.running_mean
    before = copy.deepcopy(network.state_dict())
    shift = bias.mean_difference(network.stem, [(torch.ones(2, 6, 3, 3), torch.ones(2, 6, 3, 3))])
    bias.store(holders, {"stem": shift})
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


class Calls(nn.Module):
    def __init__(self, forward, **layers):
        super().__init__()
        self.layers, self.order = nn.ModuleDict(layers), forward

    def forward(self, x):
        return self.order(self.layers, x)


def conv():
    return nn.Conv2d(3, 3, 1, bias=False)


@pytest.mark.parametrize(
    ("forward", "norm"),
    [
        (lambda layers, x: layers["a"](x), nn.BatchNorm2d(3)),
        (lambda layers, x: layers["bn"](layers["a"](x).relu_()), nn.BatchNorm2d(3)),
        (lambda layers, x: layers["bn"](layers["a"](x) + 1), nn.BatchNorm2d(3)),
        (lambda layers, x: layers["bn"](layers["a"](x)), nn.BatchNorm2d(3, track_running_stats=False)),
        (lambda layers, x: layers["bn"](layers["a"](x)), nn.InstanceNorm2d(3)),
    ],
)
def test_a_layer_that_cannot_hold_it_is_refused(images, forward, norm):
    with pytest.raises(UserError, match="^layers.a: no bias and no BatchNorm of its own .*bias=correct") as caught:
        run(Calls(forward, a=conv(), bn=norm), images, bias="correct")
    assert "\n" not in str(caught.value)


def test_two_layers_of_one_batchnorm_are_refused(images):
    model = Calls(lambda layers, x: layers["bn"](layers["b"](layers["bn"](layers["a"](x)))), a=conv(), b=conv())
    model.layers["bn"] = nn.BatchNorm2d(3)
    with pytest.raises(UserError, match="^layers.a: no bias and no BatchNorm of its own"):
        run(model, images, bias="correct")
