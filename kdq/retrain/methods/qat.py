"""Quantization-aware training: weights and steps of the quantized network are trained on labels or with a teacher."""

import torch
from torch import nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared
from kdq.distill.teacher import Teacher
from kdq.models.model import Model
from kdq.recipe.vocabulary import Annotated, Field, NonNegative
from kdq.retrain.keys import Quantized
from kdq.retrain.lsq import LearnedSteps, attach, detach
from kdq.retrain.method import Retraining
from kdq.retrain.supervision import supervision
from kdq.train.task import Step, Task


class Parameters(Quantized):
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher's logits; 0 is training on labels alone")
    ] = 0.0


class QAT(Retraining):
    """Train with learned steps on the labels and, unless ``distillation_weight`` is 0, with a frozen teacher."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        network = attach(parent, teacher.network if self.keys.start == "float" else None)
        return QuantizedTraining(network, Teacher(teacher.network), self.keys)

    def model(self, task: Task, parent: Model) -> Model:
        return Model(task.network, parent.architecture, detach(task.network, parent.codes))


class QuantizedTraining(LearnedSteps):
    def __init__(self, network: nn.Module, teacher: Teacher, keys: Parameters):
        super().__init__(network)
        self.teacher, self.keys = teacher, keys

    def forward(self, batch: Batch) -> Step:
        logits = self.network(batch.images).float()
        return Step(supervision(self.keys, logits, batch.labels, lambda: self.teacher.outputs(batch).logits), logits)
