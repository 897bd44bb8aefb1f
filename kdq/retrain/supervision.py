"""The losses of a retrained network: with the labels and with a teacher's logits."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from kdq.distill.divergence import match
from kdq.retrain.keys import Quantized


def supervision(
    keys: Quantized, logits: Tensor, labels: Tensor, teacher_logits: Callable[[], Tensor]
) -> dict[str, Tensor]:
    """Return ``label_weight`` CE(labels) and ``distillation_weight`` T^2 KL(teacher || network), means over the batch.

    Logits are (B, classes) in float32, labels (B,). A term of weight 0 is left out; ``teacher_logits`` is called only
    if the second is not.
    """
    terms = {}
    if keys.label_weight:
        terms["cross_entropy"] = keys.label_weight * F.cross_entropy(logits, labels)
    if keys.distillation_weight:
        terms["distillation"] = keys.distillation_weight * match(logits, teacher_logits(), keys.temperature)
    return terms
