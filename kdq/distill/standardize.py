"""Standardized logits, an option of the methods whose ``Parameters`` derive from ``kdq.distill.keys.Logits``.

Source: Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv:2403.01427.
"""

import torch
from torch import Tensor


def standardize(logits: Tensor) -> Tensor:
    """Return (z - mean) / (1e-7 + std) of each row z of logits (B, C), in float32 or wider: shift and scale drop out.

    Done before the division by the temperature. As in the published code the deviation divides by C - 1.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    std, mean = torch.std_mean(wide, dim=1, keepdim=True)
    return (wide - mean) / (1e-7 + std)


def compared(standardized: bool, *logits: Tensor) -> tuple[Tensor, ...]:
    """Return the logits that a method compares: standardized if its key ``standardize`` is set."""
    return tuple(map(standardize, logits)) if standardized else logits
