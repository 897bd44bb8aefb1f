"""Divergences between softened predictions, shared by the methods that compare logits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the KL divergence of each row, (B,): sum_c p_t (log p_t - log p_s), p = softmax(z / temperature).

    Without the factor temperature^2. Logits are (B, C) of any float type; types narrower than float32 are widened.
    """
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits, temperature)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def match(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return temperature^2 times the mean of ``kl`` over the batch, whose gradient's size is independent of it."""
    return temperature**2 * kl(student_logits, teacher_logits, temperature).mean()


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the cross entropy per row with the teacher's soft labels, (B,): - sum_c p_t log p_s.

    This is ``kl`` plus the teacher's entropy: the student's gradient is the same, but it is not 0 at equality.
    """
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits, temperature)
    return -(teacher.exp() * student).sum(1)


def _softened(logits: Tensor, temperature: float) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.log_softmax(logits.to(wide) / temperature, dim=1)
