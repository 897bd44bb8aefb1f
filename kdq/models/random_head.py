"""A classifier on random features: layers of fixed random weights in the place of a network's last linear layer.

Only the linear classifier at the end is trained; ``kdq.retrain.methods.ntklc`` chooses the weights and activations.
"""

from math import sqrt

import torch
from torch import Tensor, nn


class Steps(nn.Module):
    """A piecewise constant activation: ``levels`` (K + 1,) between ascending ``thresholds`` (K,)."""

    def __init__(self, levels: list[float], thresholds: list[float]):
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("thresholds", torch.tensor(thresholds), persistent=False)
        if len(levels) != len(thresholds) + 1:
            raise ValueError(f"{len(levels)} levels and {len(thresholds)} thresholds, expected one more level")

    def forward(self, x: Tensor) -> Tensor:
        return self.levels[torch.bucketize(x, self.thresholds)]


class RandomHead(nn.Module):
    """Logits of embeddings (B, D): centred, scaled, through random layers, then a linear classifier.

    Layer l computes (sig(W x) - mean) / sqrt(width), in float32 even under autocast, whose rounding moves the steps.
    ``activations`` has one dict per layer: the ``mean``, and ``levels`` and ``thresholds`` if it is piecewise constant
    and not ReLU. ``mean`` (D,) and ``scale`` of the embeddings are part of the state dict.
    """

    def __init__(self, inputs: int, classes: int, *, widths: list[int], activations: list[dict]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(()))
        sizes = [inputs, *widths]
        self.layers = nn.ModuleList(
            nn.Linear(*pair, bias=False) for pair in zip(sizes, widths, strict=False)
        ).requires_grad_(False)
        self.means = [activation["mean"] for activation in activations]
        self.activations = nn.ModuleList(
            Steps(activation["levels"], activation["thresholds"]) if "levels" in activation else nn.ReLU()
            for activation in activations
        )
        if len(widths) != len(activations):
            raise ValueError(f"{len(widths)} widths and {len(activations)} activations, expected one per layer")
        self.classifier = nn.Linear(sizes[-1], classes, bias=False)

    def features(self, embedding: Tensor) -> Tensor:
        """Return the random features (B, width of the last layer) of embeddings (B, D)."""
        with torch.autocast(embedding.device.type, enabled=False):
            x = (embedding.float() - self.mean) / self.scale
            for layer, activation, mean in zip(self.layers, self.activations, self.means, strict=True):
                x = (activation(layer(x)) - mean) / sqrt(layer.out_features)
        return x

    def forward(self, embedding: Tensor) -> Tensor:
        return self.classifier(self.features(embedding))
