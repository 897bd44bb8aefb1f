"""ResNet-18, -34 and -50 with torchvision's parameter names, a choice of stem and a width factor.

Ours, because ``import torchvision`` costs more than a short job; tests hold them equal to torchvision's, and weights
load strictly both ways. Source: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.errors import UserError, nearest
from kdq.models.random_head import RandomHead

LAYERS = ("layer1", "layer2", "layer3", "layer4")
PREACTIVATIONS = tuple(f"{layer}.preactivation" for layer in LAYERS)
TAPS = ("stem", *LAYERS, "embedding", *PREACTIVATIONS)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    kind = _NarrowShortcut if kernel == 1 and stride > 1 and inputs < 16 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class _NarrowShortcut(nn.Conv2d):
    """A 1x1 convolution with stride that leaves the pixels between its steps out first: the same numbers.

    With fewer input channels than a vector has numbers (8 with AVX2, 16 with AVX-512) oneDNN 3.12 writes past its
    memory in the gradient of such weights in channels_last (oneDNN issue 6035): crashes, or wrong gradients.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        down, right = self.stride
        return F.conv2d(input[:, :, ::down, ::right], weight, bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and -34."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _convolution(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def preactivation(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(x)) + shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.preactivation(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride, as in torchvision) and 1x1 convolutions and a shortcut: ResNet-50."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _convolution(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _convolution(planes, planes * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = downsample

    def preactivation(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.bn3(self.conv3(x)) + shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.preactivation(x), inplace=True)


ARCHITECTURES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A residual network on images in [0, 1]; it normalises them itself.

    The mean and standard deviation are part of the network but not of its state dict: a teacher and a student with
    different normalisation can see the same tensor, and the state dict stays torchvision's.
    """

    def __init__(self, block, depths, *, classes: int, channels: int, stem: str, width: float, mean, std):
        super().__init__()
        base = max(1, round(64 * width))
        self.inputs = base
        if stem == "cifar":
            self.conv1 = nn.Conv2d(channels, base, 3, 1, padding=1, bias=False)
            self.maxpool = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(channels, base, 7, 2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.bn1 = nn.BatchNorm2d(base)
        self.layer1 = self._stage(block, base, depths[0], 1)
        self.layer2 = self._stage(block, base * 2, depths[1], 2)
        self.layer3 = self._stage(block, base * 4, depths[2], 2)
        self.layer4 = self._stage(block, base * 8, depths[3], 2)
        self.fc = nn.Linear(base * 8 * block.expansion, classes)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock | Bottleneck):
                # each block starts as the identity: without it ResNet-50 diverges at the learning rates of ResNet-18
                nn.init.zeros_((module.bn2 if isinstance(module, BasicBlock) else module.bn3).weight)

    def _stage(self, block, planes: int, depth: int, stride: int) -> nn.Sequential:
        outputs = planes * block.expansion
        downsample = None
        if stride != 1 or self.inputs != outputs:
            downsample = nn.Sequential(_convolution(self.inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        blocks = [block(self.inputs, planes, stride, downsample)]
        self.inputs = outputs
        return nn.Sequential(*blocks, *(block(outputs, planes) for _ in range(depth - 1)))

    def forward(self, images: Tensor, taps: tuple[str, ...] = ()):
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]; with ``taps``, ``(logits, {tap: feature})``.

        Features are post-activation: ``stem`` and ``layer1`` to ``layer4`` (B, C, H, W), ``embedding`` (B, D), the
        pooled input of the classifier. ``layer1.preactivation`` and so on are what the stage's last ReLU gets.
        """
        features = {}
        x = (images - self.mean) / self.std
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        features["stem"] = x
        x = self.maxpool(x)
        kept = any(tap in PREACTIVATIONS for tap in taps)
        for name in LAYERS:
            *blocks, last = getattr(self, name)
            for block in blocks:
                x = block(x)
            features[f"{name}.preactivation"] = x = last.preactivation(x)
            features[name] = x = F.relu(x, inplace=not kept)
        x = x.mean((2, 3))
        features["embedding"] = x
        logits = self.fc(x)
        return (logits, {tap: features[tap] for tap in taps}) if taps else logits


def outline(
    architecture: str, *, classes: int, channels: int, stem: str, width: float, head: dict | None = None, **_
) -> dict[str, tuple]:
    """The shapes of the first, the largest and the last weight of a network that is not built: the rest is in between.

    Against them a file is held before memory is taken for what it says to be.
    """
    block, _ = ARCHITECTURES[architecture]
    base, kernel = max(1, round(64 * width)), 3 if stem == "cifar" else 7
    widths = head["widths"] if head else []
    layers = [f"fc.layers.{index}.weight" for index in range(len(widths))]
    last = [*layers, "fc.classifier.weight" if head else "fc.weight"]
    sizes = pairwise([8 * base * block.expansion, *widths, classes])
    return {
        "conv1.weight": (base, channels, kernel, kernel),
        "layer4.1.conv2.weight": (8 * base, 8 * base, 3, 3),
        **{name: (outputs, inputs) for name, (inputs, outputs) in zip(last, sizes, strict=True)},
    }


def build(
    architecture: str,
    *,
    classes: int,
    channels: int,
    stem: str,
    width: float,
    mean: list[float],
    std: list[float],
    head: dict | None = None,
) -> ResNet:
    """A freshly initialised network; raises UserError for an architecture or stem that does not exist.

    Its attribute ``architecture`` holds these arguments: ``build(**network.architecture)`` makes another of its kind.
    ``mean`` and ``std`` are per input channel, in units of [0, 1] images. ``width`` scales every channel count.
    ``head`` describes random layers before the classifier: arguments of ``kdq.models.random_head.RandomHead``.
    Parameters at 10 classes, CIFAR stem and width 1: 11,173,962 (ResNet-18) and 23,520,842 (ResNet-50).
    """
    if architecture not in ARCHITECTURES:
        hint = nearest(architecture, ARCHITECTURES)
        raise UserError(
            f"architecture {architecture!r} does not exist, expected one of {', '.join(ARCHITECTURES)}{hint}"
        )
    if stem not in ("cifar", "imagenet"):
        raise UserError(
            f"stem {stem!r} does not exist, expected cifar or imagenet{nearest(stem, ('cifar', 'imagenet'))}"
        )
    for key, values in (("mean", mean), ("std", std)):
        if (found := torch.tensor(values).shape) != (channels,):
            raise UserError(f"{key} has the shape {tuple(found)}, expected {channels} values, one a channel")
    block, depths = ARCHITECTURES[architecture]
    arguments = {"classes": classes, "channels": channels, "stem": stem, "width": width, "mean": mean, "std": std}
    network = ResNet(block, depths, **arguments)
    if head is not None:
        network.fc = RandomHead(network.fc.in_features, classes, **head)
        arguments["head"] = head
    network.architecture = {"architecture": architecture, **arguments}
    return network
