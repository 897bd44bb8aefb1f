"""The residual networks: torchvision's, with a stem, a width and a normalisation of their own."""

import pytest
import torch

from kdq.errors import UserError
from kdq.models import registry
from kdq.models.networks import resnet
from kdq.models.networks.resnet import LAYERS, PREACTIVATIONS, TAPS

NAMES = ("resnet18", "resnet34", "resnet50")
IDENTITY = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class TestTorchvision:
    @pytest.mark.parametrize("name", NAMES)
    def test_weights_load_strictly_both_ways_and_outputs_are_equal(self, name):
        torchvision = pytest.importorskip("torchvision")
        theirs = torchvision.models.get_model(name, num_classes=10).eval()
        ours = resnet.build(name, classes=10, channels=3, stem="imagenet", width=1.0, **IDENTITY).eval()
        generator = torch.Generator().manual_seed(0)
        for module in theirs.modules():  # statistics that are not the identity
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(generator=generator).mul_(0.1)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        images = torch.rand(2, 3, 64, 64, generator=generator)
        with torch.no_grad():
            torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
        theirs.load_state_dict(ours.state_dict(), strict=True)
        seen = {}
        for layer in LAYERS:  # the last call of a block's ReLU, which it uses twice or three times, and in place
            relu = getattr(theirs, layer)[-1].relu
            relu.register_forward_pre_hook(lambda _, given, layer=layer: seen.update({layer: given[0].clone()}))
        with torch.no_grad():
            theirs(images)
            found = ours(images, taps=PREACTIVATIONS)[1]
        for layer, tap in zip(LAYERS, PREACTIVATIONS, strict=True):
            assert found[tap].min() < 0
            torch.testing.assert_close(found[tap], seen[layer], rtol=1e-4, atol=1e-4)


class TestSizes:
    @pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_173_962), ("resnet50", 23_520_842)])
    def test_parameters_on_cifar(self, name, parameters):
        network = resnet.build(name, classes=10, channels=3, stem="cifar", width=1.0, **IDENTITY)
        assert count(network) == parameters

    @pytest.mark.parametrize("width", [0.0625, 0.125, 0.25])
    @pytest.mark.parametrize("name", NAMES)
    def test_width_scales_every_channel_count(self, build, name, width):
        network = build(name, width=width)
        base = round(64 * width)
        assert network.conv1.out_channels == base
        expansion = 4 if name == "resnet50" else 1
        assert network.fc.in_features == 8 * base * expansion
        assert network.layer3[0].conv1.out_channels == 4 * base

    def test_no_width_gives_an_empty_network(self, build):
        assert build(width=1e-9).conv1.out_channels == 1


class TestForward:
    @pytest.mark.parametrize("name", NAMES)
    def test_normalises_inside_as_outside(self, build, name):
        inside = build(name, channels=3, mean=[0.1, 0.5, 0.7], std=[0.2, 0.3, 0.4]).eval()
        outside = build(name, channels=3, **IDENTITY).eval()
        images = torch.rand(4, 3, 8, 8)
        normalised = (images - torch.tensor([0.1, 0.5, 0.7]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
            1, 3, 1, 1
        )
        torch.testing.assert_close(inside(images), outside(normalised))

    def test_the_normalisation_is_not_in_the_state_dict(self, build):
        assert not {"mean", "std"} & set(build().state_dict())

    @pytest.mark.parametrize(
        ("stem", "sizes"), [("cifar", (16, 16, 8, 4, 2)), ("imagenet", (8, 4, 2, 1, 1))], ids=("cifar", "imagenet")
    )
    @pytest.mark.parametrize(("name", "expansion"), [("resnet18", 1), ("resnet34", 1), ("resnet50", 4)])
    def test_taps(self, build, name, expansion, stem, sizes):
        network = build(name, stem=stem).eval()
        images = torch.rand(2, 1, 16, 16)
        logits, features = network(images, taps=TAPS)
        channels = [4, *(4 * factor * expansion for factor in (1, 2, 4, 8))]
        shapes = {tap: tuple(feature.shape) for tap, feature in features.items()}
        expected = {
            tap: (2, channel, size, size) for tap, channel, size in zip(TAPS, channels, sizes, strict=False)
        } | {"embedding": (2, 32 * expansion)}
        expected |= {tap: expected[layer] for tap, layer in zip(PREACTIVATIONS, LAYERS, strict=True)}
        assert shapes == expected
        assert torch.equal(logits, network(images))
        for tap, before in zip(LAYERS, PREACTIVATIONS, strict=True):
            assert torch.equal(features[tap], features[before].relu())
        assert features["stem"].min() >= 0
        torch.testing.assert_close(network.fc(features["embedding"]), logits)

    def test_taps_come_in_the_order_asked(self, build):
        assert list(build()(torch.rand(2, 1, 8, 8), taps=("embedding", "stem"))[1]) == ["embedding", "stem"]

    def test_layout_of_the_memory_does_not_matter(self, build):
        network, images = build().eval(), torch.rand(2, 1, 8, 8)
        expected = network(images)
        last = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)

    def test_each_block_starts_as_the_identity(self, build):
        """Where a block keeps its shape it gives what it gets, as the last normalisation starts at zero."""
        for name in NAMES:
            block = build(name).layer1[1]
            features = torch.rand(2, block.conv1.in_channels, 8, 8)
            assert torch.equal(block(features.clone()), features)


class TestErrors:
    def test_unknown_architecture(self, build):
        with pytest.raises(UserError, match="architecture 'resnet81' does not exist, expected one of .*did you mean"):
            registry.build("resnet81")

    def test_unknown_stem(self, build):
        with pytest.raises(
            UserError, match="stem 'cifra' does not exist, expected cifar or imagenet; did you mean 'ci"
        ):
            build(stem="cifra")
