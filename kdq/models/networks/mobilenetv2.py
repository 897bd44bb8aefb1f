"""MobileNetV2 with torchvision's parameter names, a choice of stem and a width factor.

``width`` scales the last convolution too; published networks of a width below 1 keep its 1280 channels.
Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381; without dropout.
"""

from torch import Tensor, nn

from kdq.models.convolution import convolution
from kdq.models.family import Family
from kdq.models.network import Network, assemble, classifier_outline, initialise
from kdq.models.operations import Add

# expansion, channels, blocks, stride of the first block (table 2 of the paper), by the stage that the blocks belong to
SETTINGS = {
    "layer1": ((1, 16, 1, 1), (6, 24, 2, 2)),
    "layer2": ((6, 32, 3, 2),),
    "layer3": ((6, 64, 4, 2), (6, 96, 3, 1)),
    "layer4": ((6, 160, 3, 2), (6, 320, 1, 1)),
}
STEM_CHANNELS, LAST_CHANNELS = 32, 1280


class Architectures(Family):
    """MobileNetV2."""

    names = ("mobilenetv2",)
    stages = ("layer1", "layer2", "layer3", "layer4")

    @staticmethod
    def blocks(name: str) -> int:
        return 17


def _channels(count: float) -> int:
    """Round a channel count to a multiple of 8 that is at least 90% of it, as published; below 8, to whole ones.

    >>> _channels(24 * 0.75), _channels(1280), _channels(16 * 0.125)
    (24, 1280, 2)
    """
    if count < 8:
        return max(1, round(count))
    rounded = int(count + 4) // 8 * 8
    return rounded + 8 * (rounded < 0.9 * count)


def _unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU6."""
    layer = convolution(inputs, outputs, kernel, stride, groups)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise and linear 1x1 convolutions; a shortcut if input and output have one shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [_unit(inputs, hidden)]
        layers += [_unit(hidden, hidden, 3, stride, hidden), convolution(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs
        self.add = Add() if self.shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.conv(x)) if self.shortcut else self.conv(x)

    preactivation = forward  # linear bottlenecks: nothing follows


class MobileNetV2(Network):
    """MobileNetV2; its state dict is torchvision's.

    Stages end where the next block reduces the resolution, at linear bottlenecks: both taps of a stage are its output.
    The CIFAR stem has stride 1 in the first convolution and in ``layer1``: 32x32 images leave at 4x4.
    """

    stages = tuple(SETTINGS)
    classifier_name = "classifier.1"

    def __init__(self, *, classes: int, channels: int, stem: str, width: float, mean, std):
        super().__init__(mean, std)
        inputs, last = _channels(STEM_CHANNELS * width), _channels(LAST_CHANNELS * width)
        large = stem == "imagenet"
        layers, self.bounds = [_unit(channels, inputs, 3, 1 + large)], {}
        for name, rows in SETTINGS.items():
            start = len(layers)
            for expansion, count, blocks, stride in rows:
                outputs, stride = _channels(count * width), stride if large or name != "layer1" else 1
                for index in range(blocks):
                    layers.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion))
                    inputs = outputs
            self.bounds[name] = slice(start, len(layers))
        self.features = nn.Sequential(*layers, _unit(inputs, last))
        # torchvision's has dropout in place 0; a random mask would differ between two trainings side by side
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(last, classes))
        initialise(self)

    def stage_blocks(self, name: str) -> list[nn.Module]:
        return list(self.features[self.bounds[name]])

    def stem(self, x: Tensor) -> Tensor:
        return self.features[0](x)

    def activate(self, x: Tensor, inplace: bool = True) -> Tensor:
        return x

    def embed(self, x: Tensor) -> Tensor:
        return self.average(self.features[-1](x))

    def tail_prefixes(self) -> tuple[str, ...]:
        last = range(self.bounds[self.stages[-1]].start, len(self.features))
        return *(f"features.{index}." for index in last), f"{self.classifier_name}."


def outline(architecture: str, *, classes: int, channels: int, stem: str, width: float, head=None, **_):
    """Return the shapes of the first and the last weights without building the network."""
    last = _channels(LAST_CHANNELS * width)
    return {
        "features.0.0.weight": (_channels(STEM_CHANNELS * width), channels, 3, 3),
        "features.18.0.weight": (last, _channels(320 * width), 1, 1),
        **classifier_outline("classifier.1", last, classes, head),
    }


def build(architecture: str, **arguments) -> MobileNetV2:
    """Return a freshly initialised network; ``arguments`` are those of :func:`kdq.models.network.assemble`.

    Parameters at 1000 classes: 3,504,872.
    """
    return assemble(MobileNetV2, architecture, **arguments)
