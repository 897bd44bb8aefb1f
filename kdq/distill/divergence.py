"""The divergence between softened predictions, shared by the methods that compare logits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of each row, (B,): sum_c p_t (log p_t - log p_s), p = softmax(z / temperature).

    Without the factor temperature^2. Logits are (B, C) of any float type; float32 or wider is kept, less is widened.
    """
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits, temperature)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross entropy of each row with the teacher's soft labels, (B,): - sum_c p_t log p_s.

    It is ``kl`` plus the teacher's entropy: the same gradient for the student, but not zero at equality.
    """
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits, temperature)
    return -(teacher.exp() * student).sum(1)


def standardize(logits: Tensor) -> Tensor:
    """(z - mean) / (1e-7 + std) of each row z of logits (B, C), in float32 or wider: their shift and scale drop out.

    Done before the division by the temperature. The deviation is the published code's, over C - 1. Source: Sun et
    al., Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv:2403.01427.
    """
    wide = _wide(logits)
    std, mean = torch.std_mean(wide, dim=1, keepdim=True)
    return (wide - mean) / (1e-7 + std)


def compared(standardized: bool, *logits: Tensor) -> tuple[Tensor, ...]:
    """The logits as a method compares them: standardized where its key ``standardize`` is true."""
    return tuple(map(standardize, logits)) if standardized else logits


def _softened(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(_wide(logits) / temperature, dim=1)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
