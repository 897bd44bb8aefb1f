"""Fine-tuning: the parent's network, float, pruned or quantized, is trained further on labels or with a teacher."""

import torch

from kdq.data.prepared import Prepared
from kdq.distill.teacher import Teacher
from kdq.models.model import Model
from kdq.recipe.vocabulary import Annotated, Field, NonNegative
from kdq.retrain.lsq import LearnedSteps
from kdq.retrain.supervision import SupervisedTraining
from kdq.train.task import Task
from kdq.tune.keys import Supervised


class Parameters(Supervised):
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher's logits; 0 is training on labels alone")
    ] = 0.0


class FineTuning(LearnedSteps):
    """Train the parent's weights as they are: float ones freely, codes with learned steps, pruned ones stay 0."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        return SupervisedTraining(self.attached(parent), Teacher(teacher.network), self.keys)
