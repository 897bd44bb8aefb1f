"""Cross-layer equalisation: the same float network, with weights of one range on both sides of a channel."""

import copy

import pytest
import torch
from torch import nn

from kdq.data.prepared import Split
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models import load
from kdq.quantize.bits.sensitivity import measure
from kdq.quantize.execution import equalization
from kdq.quantize.execution.equalization import equalize
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from tests.deploy.conftest import images, network_of  # noqa: F401, a fixture


def quantizer(**keys):
    return quantizer_of("kdq.quantize.methods.gpfq", {"scale": "mse", "channels": "equalize", **keys}, 0)


@pytest.mark.parametrize(
    ("architecture", "pairs"),
    [("resnet18", 8), ("resnet50", 2 * 16), ("wrn16-2", 6), ("mobilenetv2", 2)],
)
@torch.no_grad()
def test_the_float_network_computes_the_same(network_of, architecture, pairs):  # noqa: F811
    """In MobileNetV2 ReLU6 stands between most layers; two bottlenecks without a shortcut follow another directly."""
    network, batch = network_of(architecture), images(4).float() / 255
    expected, before = network(batch), copy.deepcopy(network.state_dict())
    equalize(network)
    assert torch.allclose(network(batch), expected, rtol=1e-5, atol=1e-5)
    changed = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert len(list(equalization._chains(network))) == pairs
    assert sum(value.dim() == 4 for name, value in before.items() if name in changed) == pairs
    assert not any("running" in name for name in changed)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "wrn16-2"])
@torch.no_grad()
def test_both_layers_have_one_range_per_channel(network_of, architecture):  # noqa: F811
    network = network_of(architecture)
    chains = list(equalization._chains(network))
    uneven = max(float((chain.scales() - 1).abs().max()) for chain in chains)
    equalize(network)
    assert max(float((chain.scales() - 1).abs().max()) for chain in chains) < 2 * equalization.CHANGE < 0.1 * uneven


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 1)],
        [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4)],
        [nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2)],
        [nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 8, 4), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)],
    ],
    ids=["plain", "depthwise", "groups", "linear"],
)
@torch.no_grad()
def test_layers_of_any_kind(layers):
    torch.manual_seed(0)
    network, batch = nn.Sequential(*copy.deepcopy(layers)).eval(), torch.rand(2, 3, 8, 8)
    for parameter in network.parameters():
        parameter.mul_(torch.linspace(0.1, 5, len(parameter)).view(-1, *[1] * (parameter.dim() - 1)))
    expected, weight = network(batch), network[-1].weight.clone()
    equalize(network)
    assert torch.allclose(network(batch), expected, rtol=1e-4, atol=1e-4) and not network[-1].weight.equal(weight)


@pytest.mark.parametrize("between", [nn.ReLU6(), nn.GELU(), nn.MaxPool2d(2)])
def test_what_does_not_scale_is_refused(between):
    with pytest.raises(UserError, match="^Sequential: no two layers in a row .* for channels=equalize$"):
        equalize(nn.Sequential(nn.Conv2d(3, 4, 1), between, nn.Conv2d(4, 5, 1)))


def test_a_network_whose_path_depends_on_its_input_is_refused():
    class Path(nn.Sequential):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(UserError, match="^channels=equalize: Path: can't be traced") as caught:
        equalize(Path(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)))
    assert "\n" not in str(caught.value)


def test_the_model_file_holds_the_equalised_network(network_of, tmp_path):  # noqa: F811
    network = copy.deepcopy(network_of("resnet18"))
    equalised = copy.deepcopy(network)
    equalize(equalised)
    codes = quantize(network, images(16), quantizer(bits=8, activations=8, keep="first"), log=lambda line: None)
    path, batch = tmp_path / "model.safetensors", images(16).float() / 255
    model_file.save(path, network, network.architecture, codes)
    floats = model_file.read(path).floats
    assert floats["layer1.0.bn1.weight"].equal(equalised.state_dict()["layer1.0.bn1.weight"])
    with torch.no_grad():
        expected, actual = network_of("resnet18")(batch), load(path)(batch)
    assert (actual - expected).norm() < 0.1 * expected.norm()


def test_sensitivities_are_those_of_the_equalised_network(network_of):  # noqa: F811
    network, part = copy.deepcopy(network_of("resnet18")), Split(images(8), torch.arange(8) % 7)
    keys = {"activations": 4, "granularity": "layer"}
    rows = measure(network, part, quantizer(**keys), log=lambda line: None)
    expected = copy.deepcopy(network_of("resnet18"))
    equalize(expected)
    plain = measure(expected, part, quantizer(**keys, channels="keep"), log=lambda line: None)
    assert (
        rows == plain != measure(network_of("resnet18"), part, quantizer(**keys, channels="keep"), log=lambda _: None)
    )
