"""Operations of a network that have no weights but whose inputs are quantized where activations are: as modules, so
that hooks see them and a trace names them."""

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """The sum of two feature maps of one shape: a residual addition."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class GlobalAverage(nn.Module):
    """The mean over all positions, in float32 or wider: (B, C) of a feature map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
