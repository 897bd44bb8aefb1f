"""Batch normalisation after quantization: measure its running statistics again."""

import torch
from torch import nn

from kdq.errors import UserError


def reestimate(model: nn.Module, images: torch.Tensor) -> None:
    """Replace the running statistics of every BatchNorm by those of ``images`` (float, (M, C, H, W)), in place.

    All images are one batch, so that the statistics are exactly theirs; everything else stays in evaluation mode.
    Raises UserError for fewer than two images: their variance is not defined.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if layers and len(images) < 2:
        raise UserError(f"batchnorm: reestimate from {len(images)} image, expected at least 2")
    before = [(layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        with torch.no_grad():
            model(images)
    finally:
        for layer, (training, momentum) in zip(layers, before, strict=True):
            layer.training, layer.momentum = training, momentum
