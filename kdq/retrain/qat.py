"""Quantization-aware training: the quantized network is trained on, its steps too, on labels or with a teacher."""

import torch
import torch.nn.functional as F
from torch import nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared
from kdq.distill.divergence import match
from kdq.parameters import Annotated, Field, NonNegative, Positive
from kdq.retrain.frozen import FrozenTeacher
from kdq.retrain.keys import Quantized
from kdq.retrain.lsq import attach, detach
from kdq.retrain.method import Model, Retraining
from kdq.train.task import Step, Task


class Parameters(Quantized):
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher; 0 is training on labels alone")
    ] = 0.0
    temperature: Annotated[Positive, Field(description="softens both predictions: softmax(logits / temperature)")] = 2.0

    def inconsistency(self) -> str:
        weights = self.label_weight, self.distillation_weight
        return "" if any(weights) else "label_weight: found 0 beside distillation_weight=0, expected one above 0"


class QAT(Retraining):
    """label_weight CE(labels) + distillation_weight temperature^2 KL(teacher || network), by LSQ."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        network = attach(parent, teacher.network if self.keys.start == "float" else None)
        return QuantizedTraining(network, FrozenTeacher(teacher.network), self.keys)

    def model(self, task: Task, parent: Model) -> Model:
        codes = detach(task.network, parent.codes)
        return Model(task.network, parent.architecture, codes)


class QuantizedTraining(Task):
    """A term of weight 0 is left out, and the teacher with it."""

    def __init__(self, network: nn.Module, teacher: FrozenTeacher, keys: Parameters):
        super().__init__(network)
        self.teacher, self.keys = teacher, keys

    def forward(self, batch: Batch) -> Step:
        keys, terms = self.keys, {}
        logits = self.network(batch.images).float()
        if keys.label_weight:
            terms["cross_entropy"] = keys.label_weight * F.cross_entropy(logits, batch.labels)
        if keys.distillation_weight:
            distance = match(logits, self.teacher(batch.images), keys.temperature)
            terms["distillation"] = keys.distillation_weight * distance
        return Step(terms, logits)
