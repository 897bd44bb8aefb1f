"""ResNet-18, -34 and -50 with torchvision's parameter names, a choice of stem and a width factor.

Ours, because ``import torchvision`` costs more than a short job; tests hold them equal to torchvision's, and weights
load strictly both ways. Source: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdq.models.convolution import convolution
from kdq.models.family import Family
from kdq.models.network import Network, assemble, classifier_outline, initialise
from kdq.models.operations import Add


class Architectures(Family):
    """ResNets."""

    names = ("resnet18", "resnet34", "resnet50")
    stages = ("layer1", "layer2", "layer3", "layer4")
    blocks = {"resnet18": 8, "resnet34": 16, "resnet50": 16}.get


LAYERS = Architectures.stages
PREACTIVATIONS = tuple(f"{layer}.preactivation" for layer in LAYERS)
TAPS = ("stem", *LAYERS, "embedding", *PREACTIVATIONS)


def stem_layers(channels: int, outputs: int, stem: str) -> tuple[nn.Conv2d, nn.Module]:
    """Return convolution and pooling of a stem: 3x3 and none (``cifar``), or 7x7 and max pooling, both of stride 2."""
    if stem == "cifar":
        return convolution(channels, outputs, 3), nn.Identity()
    return convolution(channels, outputs, 7, 2), nn.MaxPool2d(3, 2, padding=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and -34."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = convolution(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample
        self.add = Add()

    def preactivation(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.add(self.bn2(self.conv2(x)), shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.preactivation(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride, as in torchvision) and 1x1 convolutions and a shortcut: ResNet-50."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = convolution(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, planes * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = downsample
        self.add = Add()

    def preactivation(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.add(self.bn3(self.conv3(x)), shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.preactivation(x), inplace=True)


ARCHITECTURES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(Network):
    """A residual network; its state dict is torchvision's."""

    stages = LAYERS

    def __init__(self, block, depths, *, classes: int, channels: int, stem: str, width: float, mean, std):
        super().__init__(mean, std)
        base = max(1, round(64 * width))
        self.inputs = base
        self.conv1, self.maxpool = stem_layers(channels, base, stem)
        self.bn1 = nn.BatchNorm2d(base)
        self.layer1 = self._stage(block, base, depths[0], 1)
        self.layer2 = self._stage(block, base * 2, depths[1], 2)
        self.layer3 = self._stage(block, base * 4, depths[2], 2)
        self.layer4 = self._stage(block, base * 8, depths[3], 2)
        self.fc = nn.Linear(base * 8 * block.expansion, classes)
        initialise(self)
        for unit in self.blocks:
            # each block begins as the identity (Goyal et al., arXiv:1706.02677, section 5.1)
            nn.init.zeros_((unit.bn2 if isinstance(unit, BasicBlock) else unit.bn3).weight)

    def _stage(self, block, planes: int, depth: int, stride: int) -> nn.Sequential:
        outputs = planes * block.expansion
        downsample = None
        if stride != 1 or self.inputs != outputs:
            downsample = nn.Sequential(convolution(self.inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        blocks = [block(self.inputs, planes, stride, downsample)]
        self.inputs = outputs
        return nn.Sequential(*blocks, *(block(outputs, planes) for _ in range(depth - 1)))

    def stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)), inplace=True)

    def pool(self, x: Tensor) -> Tensor:
        return self.maxpool(x)


def outline(
    architecture: str, *, classes: int, channels: int, stem: str, width: float, head: dict | None = None, **_
) -> dict[str, tuple]:
    """Return the shapes of the first, the largest and the last weights without building the network.

    A file is checked against them before memory is taken for what its header describes.
    """
    block, _ = ARCHITECTURES[architecture]
    base, kernel = max(1, round(64 * width)), 3 if stem == "cifar" else 7
    return {
        "conv1.weight": (base, channels, kernel, kernel),
        "layer4.1.conv2.weight": (8 * base, 8 * base, 3, 3),
        **classifier_outline("fc", 8 * base * block.expansion, classes, head),
    }


def build(architecture: str, **arguments) -> ResNet:
    """Return a freshly initialised ResNet; ``arguments`` are those of :func:`kdq.models.network.assemble`.

    Parameters at 10 classes, CIFAR stem and width 1: 11,173,962 (ResNet-18) and 23,520,842 (ResNet-50).
    """
    return assemble(partial(ResNet, *ARCHITECTURES[architecture]), architecture, **arguments)
