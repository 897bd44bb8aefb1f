"""Normalised features and their products and averages, shared by the methods that compare features."""

import torch
import torch.nn.functional as F
from torch import Tensor

SHORTEST = 1e-12  # shorter rows count as zero


def rescaled(features: Tensor) -> Tensor:
    """Return the features divided by their largest magnitude, in float32 or wider, for losses that ignore the scale.

    Squares and sums of the result can't overflow. The divisor is a constant to the gradient, which
    stays that of the unscaled loss.
    """
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return wide / wide.detach().abs().amax().clamp_min(SHORTEST)


def unit(rows: Tensor) -> Tensor:
    """Return rows (B, N) divided by their L2 norm; a row of zeros stays zero and has no gradient."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    there = norm > SHORTEST
    return rows * there / torch.where(there, norm, 1)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right`` in the precision of the arguments, which autocast would lower."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right


def average_pool(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Pool maps (B, C, H, W) to ``size`` by adaptive averages, in their own precision.

    The gradient of torch's adaptive pooling is not reproducible on CUDA: windows of equal size are pooled by
    ``avg_pool2d``, others by two matrix products.
    """
    sides = list(zip(maps.shape[2:], size, strict=True))
    if all(length % count == 0 for length, count in sides):
        return F.avg_pool2d(maps, [length // count for length, count in sides])
    rows, columns = (
        F.adaptive_avg_pool1d(torch.eye(length, dtype=maps.dtype, device=maps.device), count) for length, count in sides
    )
    return product(product(rows.mT, maps), columns)
