"""QKD: a quantized student is trained alone, then together with its teacher, then by the frozen teacher.

Source: Kim et al., QKD: Quantization-aware Knowledge Distillation, arXiv:1911.12491. The authors'
three phases take 30, 100 and 70 of 200 epochs on CIFAR, shares that are the defaults.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared
from kdq.distill.divergence import match
from kdq.models.model import Model
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, Fraction, Positive
from kdq.retrain.keys import Quantized
from kdq.retrain.lsq import LearnedSteps, LearnedStepsTask
from kdq.train.task import Step, Task

SELF_STUDYING, CO_STUDYING, TUTORING = "self-studying", "co-studying", "tutoring"
LATER_TERMS = ("distillation", "teacher_cross_entropy", "teacher_distillation")


class Parameters(Quantized):
    of_match: ClassVar = ("temperature",)
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


class QKD(LearnedSteps):
    """Self-studying, co-studying, tutoring, with learned steps; the keys' weights apply to both networks' losses."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        return Studying(self.attached(parent), teacher.network, self.keys, self.epochs)


class Studying(LearnedStepsTask):
    """Give every term of all phases at every step, 0 if the phase lacks it: a history needs the same columns."""

    def __init__(self, network: nn.Module, teacher: nn.Module, keys: Parameters, epochs: int):
        super().__init__(network)
        self.teacher, self.keys = teacher, keys
        self.ends = round(keys.self_studying * epochs), round((keys.self_studying + keys.co_studying) * epochs)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks, "teacher": self.teacher}

    def phase(self, epoch: int) -> str:
        """Return the phase of an epoch, the first being 1."""
        alone, together = self.ends
        return SELF_STUDYING if epoch <= alone else CO_STUDYING if epoch <= together else TUTORING

    def forward(self, batch: Batch) -> Step:
        keys, phase = self.keys, self.phase(batch.epoch)
        logits = self.network(batch.images).float()
        terms = {"cross_entropy": keys.label_weight * F.cross_entropy(logits, batch.labels)}
        terms |= dict.fromkeys(LATER_TERMS, logits.new_zeros(()))
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

    def _match(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return T^2 KL(targets || logits); targets are detached, so that each network is trained by its own terms."""
        return match(logits, targets.detach(), self.keys.temperature)
