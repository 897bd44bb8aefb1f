"""What trains a network further: the labels and a frozen teacher's logits."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared
from kdq.distill.divergence import match
from kdq.distill.teacher import Teacher
from kdq.models.model import Model
from kdq.retrain.keys import Supervised
from kdq.retrain.lsq import LearnedSteps, LearnedStepsTask
from kdq.train.task import Step, Task


def supervision(
    keys: Supervised, logits: Tensor, labels: Tensor, teacher_logits: Callable[[], Tensor]
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


class SupervisedTraining(LearnedStepsTask):
    """Train the whole network by :func:`supervision`."""

    def __init__(self, network: nn.Module, teacher: Teacher, keys: Supervised):
        super().__init__(network)
        self.teacher, self.keys = teacher, keys

    def forward(self, batch: Batch) -> Step:
        logits = self.network(batch.images).float()
        return Step(supervision(self.keys, logits, batch.labels, lambda: self.teacher.outputs(batch).logits), logits)


class SupervisedMethod(LearnedSteps):
    """A method that is :class:`SupervisedTraining`: float weights are trained freely, codes with learned steps."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        return SupervisedTraining(self.attached(parent), Teacher(teacher.network), self.keys)
