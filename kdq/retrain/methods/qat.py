"""Quantization-aware training: weights and steps of the quantized network are trained on labels or with a teacher."""

import torch

from kdq.data.prepared import Prepared
from kdq.distill.teacher import Teacher
from kdq.models.model import Model
from kdq.recipe.vocabulary import Annotated, Field, NonNegative
from kdq.retrain.keys import Quantized
from kdq.retrain.lsq import LearnedSteps
from kdq.retrain.supervision import SupervisedTraining
from kdq.train.task import Task


class Parameters(Quantized):
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher's logits; 0 is training on labels alone")
    ] = 0.0


class QAT(LearnedSteps):
    """Train with learned steps on the labels and, unless ``distillation_weight`` is 0, with a frozen teacher."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        return SupervisedTraining(self.attached(parent), Teacher(teacher.network), self.keys)
