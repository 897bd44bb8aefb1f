"""Wide residual networks WRN-d-k: pre-activation blocks in three stages of 16k, 32k and 64k channels.

Source: Zagoruyko and Komodakis, Wide Residual Networks, arXiv:1605.07146; without dropout.
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from kdq.models.convolution import convolution
from kdq.models.family import Family
from kdq.models.network import Network, assemble, classifier_outline, initialise
from kdq.models.networks.resnet import stem_layers
from kdq.models.operations import Add


class Architectures(Family):
    """Wide residual networks: any depth and factor, some of them named."""

    names = ("wrn16-2", "wrn28-10", "wrn40-1", "wrn40-2")
    spelling = "wrn<6n+4>-<factor>"
    references = ("wrn10-1", "wrn16-1")
    stages = ("layer1", "layer2", "layer3")

    @staticmethod
    def parse(name: str) -> tuple[int, int] | None:
        """Return depth and factor of ``wrn<depth>-<factor>``, None for another name or a depth other than 6n + 4.

        >>> Architectures.parse("wrn28-10"), Architectures.parse("wrn27-10")
        ((28, 10), None)
        """
        match = re.fullmatch(r"wrn([1-9]\d{1,2})-([1-9]\d?)", name)
        depth, factor = map(int, match.groups()) if match else (0, 0)
        return (depth, factor) if depth % 6 == 4 else None

    @classmethod
    def blocks(cls, name: str) -> int:
        return (cls.parse(name)[0] - 4) // 2


class Block(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice, and a shortcut.

    If channels change, the published block's branch and shortcut both start from its first ReLU. That BatchNorm and
    ReLU belong to the end of the stage before (``norm``), as the last ones of the network do: the same function, and
    every stage ends post-activation. Hence ``opens`` (input is activated), ``closes`` (output is).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, opens: bool, closes: bool):
        super().__init__()
        self.bn0 = nn.Identity() if opens else nn.BatchNorm2d(inputs)
        self.opens = opens
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs, 3)
        self.shortcut = convolution(inputs, outputs, 1, stride) if opens else nn.Identity()
        self.norm = nn.BatchNorm2d(outputs) if closes else nn.Identity()
        self.closes = closes
        self.add = Add()

    def preactivation(self, x: Tensor) -> Tensor:
        branch = x if self.opens else F.relu(self.bn0(x), inplace=True)
        branch = self.conv2(F.relu(self.bn1(self.conv1(branch)), inplace=True))
        return self.norm(self.add(branch, self.shortcut(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.preactivation(x)
        return F.relu(x, inplace=True) if self.closes else x


class WideResNet(Network):
    """WRN-d-k. The ImageNet stem is ResNet's: 7x7 convolution of stride 2 and max pooling."""

    stages = Architectures.stages

    def __init__(self, depth: int, factor: int, *, classes: int, channels: int, stem: str, width: float, mean, std):
        super().__init__(mean, std)
        base, *planes = channel_counts(factor, width)
        opens = base != planes[0]  # at k = 1 the first block keeps its channels, so its shortcut is the identity
        self.conv1, self.maxpool = stem_layers(channels, base, stem)
        self.bn1 = nn.BatchNorm2d(base) if opens else nn.Identity()
        self.opens = opens
        for name, inputs, outputs in zip(Architectures.stages, (base, *planes), planes, strict=False):
            count = (depth - 4) // 6
            blocks = [
                Block(
                    outputs if index else inputs,
                    outputs,
                    1 if index or name == "layer1" else 2,
                    opens=not index and (opens or name != "layer1"),
                    closes=index == count - 1,
                )
                for index in range(count)
            ]
            setattr(self, name, nn.Sequential(*blocks))
        self.fc = nn.Linear(planes[-1], classes)
        initialise(self)

    def stem(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        return F.relu(x, inplace=True) if self.opens else x

    def pool(self, x: Tensor) -> Tensor:
        return self.maxpool(x)


def channel_counts(factor: int, width: float) -> list[int]:
    """Return the channels of the stem and of the three stages."""
    return [max(1, round(count * width)) for count in (16, *(16 * factor * 2**stage for stage in range(3)))]


def outline(architecture: str, *, classes: int, channels: int, stem: str, width: float, head=None, **_):
    """Return the shapes of the first, the largest and the last weights without building the network."""
    depth, factor = Architectures.parse(architecture)
    base, *planes = channel_counts(factor, width)
    kernel, last = 3 if stem == "cifar" else 7, (depth - 4) // 6 - 1
    return {
        "conv1.weight": (base, channels, kernel, kernel),
        f"layer3.{last}.conv2.weight": (planes[-1], planes[-1], 3, 3),
        **classifier_outline("fc", planes[-1], classes, head),
    }


def build(architecture: str, **arguments) -> WideResNet:
    """Return a freshly initialised network; ``arguments`` are those of :func:`kdq.models.network.assemble`.

    Parameters at 10 classes: 691,674 (WRN-16-2), 2,243,546 (WRN-40-2) and 36,479,194 (WRN-28-10).
    """
    depth, factor = Architectures.parse(architecture)
    return assemble(lambda **rest: WideResNet(depth, factor, **rest), architecture, **arguments)
