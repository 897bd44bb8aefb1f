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


def match(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """temperature^2 times the mean of ``kl`` over the batch: a scalar, its gradient of one size at any temperature."""
    return temperature**2 * kl(student_logits, teacher_logits, temperature).mean()


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross entropy of each row with the teacher's soft labels, (B,): - sum_c p_t log p_s.

    It is ``kl`` plus the teacher's entropy: the same gradient for the student, but not zero at equality.
    """
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits, temperature)
    return -(teacher.exp() * student).sum(1)


def _softened(logits: Tensor, temperature: float) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.log_softmax(logits.to(wide) / temperature, dim=1)
