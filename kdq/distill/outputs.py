"""A network's outputs for one batch."""

from dataclasses import dataclass, field
from typing import Self

from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """Logits (B, classes) in float32, and by tap the features that a method reads, in the order of its taps."""

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, images: Tensor, taps: tuple[str, ...] = ()) -> Self:
        """Return the outputs of ``network`` for images (B, C, H, W) in [0, 1]."""
        if not taps:
            return cls(network(images).float())
        logits, features = network(images, taps=taps)
        return cls(logits.float(), features)
