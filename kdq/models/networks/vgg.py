"""VGG-16 with BatchNorm and one linear layer behind its convolutions, as it is used on CIFAR, with a width factor.

Sources: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, arXiv:1409.1556,
configuration D; with BatchNorm and a single linear layer as in Liu and Deng, Very deep convolutional neural network
based image classification using small training sample size, ACPR 2015, without its dropout.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kdq.models.convolution import convolution
from kdq.models.family import Family
from kdq.models.network import Network, assemble, classifier_outline, initialise

SETTINGS = {"layer1": (64, 1), "layer2": (128, 2), "layer3": (256, 3), "layer4": (512, 3), "layer5": (512, 3)}


class Architectures(Family):
    """VGGs."""

    names = ("vgg16_bn",)
    stages = ("layer1", "layer2", "layer3", "layer4", "layer5")

    @staticmethod
    def blocks(name: str) -> int:
        return 12


def halving() -> nn.MaxPool2d:
    """Return the pooling behind every stage; of an odd side the last pixel is left, so that small images stay."""
    return nn.MaxPool2d(2, ceil_mode=True)


class Unit(nn.Module):
    """A pooling if it is the first of a stage, a 3x3 convolution and BatchNorm."""

    def __init__(self, inputs: int, outputs: int, pools: bool = False):
        super().__init__()
        self.pool = halving() if pools else None
        self.conv = convolution(inputs, outputs, 3)
        self.bn = nn.BatchNorm2d(outputs)

    def preactivation(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x if self.pool is None else self.pool(x)))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.preactivation(x), inplace=True)


class VGG(Network):
    """VGG-16; the first of its 13 convolutions is the stem, whatever the key ``stem``, as all of them are alike."""

    stages = tuple(SETTINGS)
    classifier_name = "classifier"

    def __init__(self, *, classes: int, channels: int, stem: str, width: float, mean, std):
        super().__init__(mean, std)
        inputs = _channels(SETTINGS["layer1"][0], width)
        self.first = Unit(channels, inputs)
        for name, (count, units) in SETTINGS.items():
            outputs = _channels(count, width)
            pools = [name != "layer1", *[False] * (units - 1)]
            sizes = [inputs, *[outputs] * units]
            setattr(self, name, nn.Sequential(*map(Unit, sizes, sizes[1:], pools)))
            inputs = outputs
        self.pool_last = halving()
        self.classifier = nn.Linear(inputs, classes)
        initialise(self)

    def stem(self, x: Tensor) -> Tensor:
        return self.first(x)

    def embed(self, x: Tensor) -> Tensor:
        return self.average(self.pool_last(x))


def _channels(count: int, width: float) -> int:
    return max(1, round(count * width))


def outline(architecture: str, *, classes: int, channels: int, stem: str, width: float, head=None, **_):
    """Return the shapes of the first and the last weights without building the network."""
    last = _channels(SETTINGS["layer5"][0], width)
    return {
        "first.conv.weight": (_channels(SETTINGS["layer1"][0], width), channels, 3, 3),
        "layer5.2.conv.weight": (last, last, 3, 3),
        **classifier_outline("classifier", last, classes, head),
    }


def build(architecture: str, **arguments) -> VGG:
    """Return a freshly initialised network; ``arguments`` are those of :func:`kdq.models.network.assemble`.

    Parameters at 10 classes: 14,724,042.
    """
    return assemble(VGG, architecture, **arguments)
