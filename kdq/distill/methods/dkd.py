"""Decoupled knowledge distillation: target class and other classes are matched with separate weights.

Source: Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, arXiv:2203.08679.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.keys import Logits, Warmup
from kdq.distill.method import Method, Outputs
from kdq.distill.standardize import compared
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, NonNegative, Temperature


class Parameters(Logits, Warmup):
    logits_only: ClassVar = True
    refuses: ClassVar = {"mixup": "DKD splits a prediction at its one label, and a mixed image has two"}
    alpha: Annotated[NonNegative, Field(description="weight of the target class's part (TCKD)")] = 1.0
    beta: Annotated[NonNegative, Field(description="weight of the other classes' part (NCKD)")] = 8.0
    temperature: Annotated[
        Temperature, Field(description="softens both predictions: softmax(logits / temperature)")
    ] = 4.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0


def dkd_terms(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float):
    """Return ``(tckd, nckd)``, each (B,), without the factor temperature^2, of logits (B, C) and class labels (B,).

    KL(p_t || p_s) = tckd + (1 - p_t[label]) nckd holds for each row (equation 7). Both are computed in log space,
    which stays finite for a teacher that is certain, even in half precision.
    """
    sides = (_decoupled(logits, labels, temperature) for logits in (student_logits, teacher_logits))
    pairs = zip(*sides, strict=True)
    return tuple(F.kl_div(*pair, reduction="none", log_target=True).sum(1) for pair in pairs)


def _decoupled(logits: Tensor, labels: Tensor, temperature: float):
    """Return log [p_label, 1 - p_label] as (B, 2) and the log softmax over the other classes as (B, C - 1)."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    count, classes = scaled.shape
    is_label = F.one_hot(labels, classes).bool()
    target = scaled[is_label].view(count, 1)
    others = scaled[~is_label].view(count, classes - 1)
    binary = torch.cat([target, others.logsumexp(1, keepdim=True)], 1)
    return binary.log_softmax(1), others.log_softmax(1)


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """Return temperature^2 (alpha TCKD + beta NCKD), mean over the batch: a scalar, 0 if the logits agree.

    Logits are (B, C). Labels (B,) are hard, one class per image: mixed labels do not apply. Source: equation 7.
    """
    tckd, nckd = dkd_terms(student_logits, teacher_logits, labels, temperature)
    return temperature**2 * (alpha * tckd.mean() + beta * nckd.mean())


class DKD(Method):
    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        logits = compared(keys.standardize, student.logits, teacher.logits)
        tckd, nckd = dkd_terms(*logits, batch.labels, keys.temperature)
        scale = self.growth(batch.epoch) * keys.temperature**2
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "target": scale * keys.alpha * tckd.mean(),
            "non_target": scale * keys.beta * nckd.mean(),
        }
