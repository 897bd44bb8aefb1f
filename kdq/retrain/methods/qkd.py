"""QKD: a quantized student studies alone, then together with a teacher that learns too, then from it.

Source: Kim et al., QKD: Quantization-aware Knowledge Distillation, arXiv:1911.12491. Of the authors' 200 epochs on
CIFAR the three phases take 30, 100 and 70, which the defaults keep as shares.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared
from kdq.distill.divergence import match
from kdq.recipe.vocabulary import Annotated, Field, Fraction, Positive
from kdq.retrain.keys import Quantized
from kdq.retrain.lsq import attach, detach
from kdq.retrain.method import Model, Retraining
from kdq.train.task import Step, Task

SELF_STUDYING, CO_STUDYING, TUTORING = "self-studying", "co-studying", "tutoring"


class Parameters(Quantized):
    label_weight: Annotated[Positive, Field(description="weight of the cross entropy with the labels")] = 1.0
    self_studying: Annotated[
        Fraction, Field(description="share of the epochs, the first, in which the student learns from labels alone")
    ] = 0.15
    co_studying: Annotated[
        Fraction,
        Field(
            description="share of the epochs, the next, in which student and teacher learn from labels and from each "
            "other; in the rest the teacher stays as it is"
        ),
    ] = 0.5

    def inconsistency(self) -> str:
        if self.self_studying + self.co_studying > 1:
            return (
                f"co_studying: found {self.co_studying} beside self_studying={self.self_studying}, "
                "expected a sum of at most 1"
            )
        return ""


class QKD(Retraining):
    """Self-studying, co-studying, tutoring, by learned steps; both networks' losses have the weights of the keys."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        network = attach(parent, teacher.network if self.keys.start == "float" else None)
        return Studying(network, teacher.network, self.keys, self.epochs)

    def model(self, task: Task, parent: Model) -> Model:
        return Model(task.network, parent.architecture, detach(task.network, parent.codes))


class Studying(Task):
    """Every term of every phase at every step, 0 where the phase has none, so that a history has the same columns."""

    def __init__(self, network: nn.Module, teacher: nn.Module, keys: Parameters, epochs: int):
        super().__init__(network)
        self.teacher, self.keys = teacher, keys
        self.ends = round(keys.self_studying * epochs), round((keys.self_studying + keys.co_studying) * epochs)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks, "teacher": self.teacher}

    def phase(self, epoch: int) -> str:
        """The phase of an epoch, the first being 1."""
        alone, together = self.ends
        return SELF_STUDYING if epoch <= alone else CO_STUDYING if epoch <= together else TUTORING

    def forward(self, batch: Batch) -> Step:
        keys, phase = self.keys, self.phase(batch.epoch)
        logits = self.network(batch.images).float()
        none = logits.new_zeros(())
        terms = {
            "cross_entropy": keys.label_weight * F.cross_entropy(logits, batch.labels),
            "distillation": none,
            "teacher_cross_entropy": none,
            "teacher_distillation": none,
        }
        if phase == SELF_STUDYING:
            return Step(terms, logits)
        teacher_logits = self._teacher_logits(batch.images, learns=phase == CO_STUDYING)
        terms["distillation"] = keys.distillation_weight * self._match(logits, teacher_logits)
        if phase == CO_STUDYING:
            terms["teacher_cross_entropy"] = keys.label_weight * F.cross_entropy(teacher_logits, batch.labels)
            terms["teacher_distillation"] = keys.distillation_weight * self._match(teacher_logits, logits)
        return Step(terms, logits)

    def _teacher_logits(self, images: Tensor, learns: bool) -> Tensor:
        self.teacher.train(learns)
        with torch.set_grad_enabled(learns):
            return self.teacher(images).float()

    def _match(self, logits: Tensor, others: Tensor) -> Tensor:
        """T^2 KL(others || logits); the others carry no gradient, so that each network is moved by its own terms."""
        return match(logits, others.detach(), self.keys.temperature)
