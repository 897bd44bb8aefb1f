"""Scales taken out of features, shared by the methods that compare features."""

import torch
from torch import Tensor

SHORTEST = 1e-12  # anything shorter counts as zero


def rescaled(features: Tensor) -> Tensor:
    """The features divided by their largest magnitude, in float32 or wider, for losses that ignore their scale.

    Squares and sums of the result can't overflow. The divisor is a constant to the gradient, which it leaves as it is.
    """
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return wide / wide.detach().abs().amax().clamp_min(SHORTEST)


def unit(rows: Tensor) -> Tensor:
    """Rows (B, N) divided by their L2 norm; a row of zeros stays one, without gradient."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    there = norm > SHORTEST
    return rows * there / torch.where(there, norm, 1)


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in their own precision, which autocast would lower."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right
