"""A teacher that stays as it is."""

import torch
from torch import Tensor, nn

from kdq.models.fold import fold_batchnorm


class FrozenTeacher:
    """The logits of a network in eval mode and without gradient.

    No module, so that neither the optimizer nor ``train()`` nor a checkpoint of the task that owns it reaches the
    network; its BatchNorms are folded, a copy.
    """

    def __init__(self, network: nn.Module):
        folded = fold_batchnorm(network).requires_grad_(False)
        on_gpu = next(folded.parameters()).is_cuda
        # on a CPU the import of the compiler alone costs seconds a job
        self._forward = torch.compile(folded, dynamic=False) if on_gpu else folded

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, classes) in float32 of images (B, C, H, W) in [0, 1]."""
        return self._forward(images).float()
