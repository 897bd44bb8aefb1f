"""The interface of this package's networks: taps, blocks, classifier, and the forward pass that they share."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import is_autocast_available

from kdq.errors import UserError, nearest
from kdq.models.operations import GlobalAverage
from kdq.models.random_head import RandomHead

STEMS = ("cifar", "imagenet")


class Network(nn.Module):
    """An image classifier: stem, stages of blocks, pooling, linear classifier.

    Images are in [0, 1]; the network normalises them itself. Mean and standard deviation are buffers outside the state
    dict: a teacher and a student with different normalisation can share a tensor. A subclass sets ``stages`` (names,
    in order), ``classifier_name`` (path of the last linear layer) and :meth:`stem`; a stage ``name`` is the attribute
    of that name, a sequence of blocks, unless :meth:`stage_blocks` says otherwise. Block ``forward`` equals
    ``activate(preactivation(x))``. :func:`assemble` sets ``architecture``.
    """

    stages: tuple[str, ...] = ()
    classifier_name: str = "fc"
    architecture: dict

    def __init__(self, mean: list[float], std: list[float]):
        super().__init__()
        self.average = GlobalAverage()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    @property
    def preactivations(self) -> tuple[str, ...]:
        """The taps before the last activation of each stage."""
        return tuple(f"{name}.preactivation" for name in self.stages)

    @property
    def taps(self) -> tuple[str, ...]:
        """All names that ``forward`` accepts as taps."""
        return ("stem", *self.stages, "embedding", *self.preactivations)

    def stage_blocks(self, name: str) -> list[nn.Module]:
        """Return the blocks of a stage in order."""
        return list(getattr(self, name))

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks in order: ``head`` after ``blocks`` after ``enter`` is the network."""
        return [block for name in self.stages for block in self.stage_blocks(name)]

    def stem(self, x: Tensor) -> Tensor:
        """Return the first feature map (B, C, H, W) of normalised images, the tap ``stem``."""
        raise NotImplementedError

    def pool(self, x: Tensor) -> Tensor:
        """Return the input of the first stage, given the stem's output."""
        return x

    def enter(self, images: Tensor) -> Tensor:
        """Return the input of the first block for images (B, C, H, W) in [0, 1]."""
        return self.pool(self.stem((images - self.mean) / self.std))

    def activate(self, x: Tensor, inplace: bool = True) -> Tensor:
        """Apply the activation that ends a stage."""
        return F.relu(x, inplace=inplace)

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding (B, D), the classifier's input, given the last feature map."""
        return self.average(x)

    @property
    def last_layer(self) -> nn.Module:
        """The classifier: a linear layer, or a :class:`RandomHead`."""
        return self.get_submodule(self.classifier_name)

    def replace_classifier(self, module: nn.Module) -> None:
        parent, _, name = self.classifier_name.rpartition(".")
        setattr(self.get_submodule(parent), name, module)

    def head(self, x: Tensor) -> Tensor:
        """Return the logits (B, classes) given the last feature map."""
        return self.classify(self.embed(x))

    def classify(self, embedding: Tensor) -> Tensor:
        """Return the logits (B, classes) of embeddings (B, D): in their precision, which autocast would lower."""
        device = self.mean.device.type
        if self.mean.dtype.itemsize < 4:  # the whole network is of low precision
            embedding = embedding.to(self.mean.dtype)
        with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():  # meta has none
            return self.last_layer(embedding)

    def tail_prefixes(self) -> tuple[str, ...]:
        """Return the prefixes of the names of parameters in the last stage and the classifier."""
        return f"{self.stages[-1]}.", f"{self.classifier_name}."

    def tail_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters of the last stage and the classifier by name."""
        prefixes = self.tail_prefixes()
        return {name: value for name, value in self.named_parameters() if name.startswith(prefixes)}

    def forward(self, images: Tensor, taps: tuple[str, ...] = ()):
        """Return logits (B, classes) of images (B, C, H, W) in [0, 1]; with ``taps``, ``(logits, {tap: feature})``.

        Features: ``stem`` and each stage's name, post-activation (B, C, H, W); ``<stage>.preactivation``, the input of
        that activation; ``embedding`` (B, D), the classifier's input.
        """
        features = {}
        features["stem"] = x = self.stem((images - self.mean) / self.std)
        x = self.pool(x)
        inplace = not any(tap.endswith(".preactivation") for tap in taps)
        for name in self.stages:
            *blocks, last = self.stage_blocks(name)
            for block in blocks:
                x = block(x)
            features[f"{name}.preactivation"] = x = last.preactivation(x)
            features[name] = x = self.activate(x, inplace)
        features["embedding"] = x = self.embed(x)
        logits = self.classify(x)
        return (logits, {tap: features[tap] for tap in taps}) if taps else logits


def initialise(network: nn.Module) -> None:
    """Draw He-normal weights (fan out) for all convolutions, in the order of ``modules()``."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def assemble(
    make: Callable[..., Network],
    architecture: str,
    *,
    classes: int,
    channels: int,
    stem: str,
    width: float,
    mean: list[float],
    std: list[float],
    head: dict | None = None,
) -> Network:
    """Return ``make(classes=, channels=, stem=, width=, mean=, std=)`` with its ``architecture`` noted.

    ``architecture`` then holds the arguments: ``registry.build(**network.architecture)`` makes another of its kind.
    ``mean`` and ``std`` are per input channel, in units of [0, 1] images. ``width`` scales every channel count.
    ``head`` has the arguments of :class:`RandomHead`: random layers before the classifier. Raise UserError for an
    unknown stem or statistics of another length.
    """
    if stem not in STEMS:
        raise UserError(f"stem {stem!r} does not exist, expected cifar or imagenet{nearest(stem, STEMS)}")
    for key, values in (("mean", mean), ("std", std)):
        if (found := torch.tensor(values).shape) != (channels,):
            raise UserError(f"{key} has the shape {tuple(found)}, expected {channels} values, one per channel")
    arguments = {"classes": classes, "channels": channels, "stem": stem, "width": width, "mean": mean, "std": std}
    network = make(**arguments)
    if head is not None:
        network.replace_classifier(RandomHead(network.last_layer.in_features, classes, **head))
        arguments["head"] = head
    network.architecture = {"architecture": architecture, **arguments}
    return network


def classifier_outline(name: str, inputs: int, classes: int, head: dict | None) -> dict[str, tuple]:
    """Return the weight shapes of the classifier called ``name``, with its random layers if ``head`` describes any."""
    if not head:
        return {f"{name}.weight": (classes, inputs)}
    sizes = [inputs, *head["widths"]]
    shapes = {f"{name}.layers.{index}.weight": (sizes[index + 1], sizes[index]) for index in range(len(sizes) - 1)}
    return shapes | {f"{name}.classifier.weight": (classes, sizes[-1])}
