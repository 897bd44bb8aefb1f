"""Distillation on mixed images, or function matching: teacher and student see the same mixed tensor.

Sources: Beyer et al., Knowledge Distillation: A Good Teacher is Patient and Consistent, arXiv:2106.05237; Zhang et al.,
mixup: Beyond Empirical Risk Minimization, arXiv:1710.09412.
"""

import torch
from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.divergence import match
from kdq.distill.image_mixing import mixed
from kdq.distill.keys import Logits
from kdq.distill.method import Method, Outputs
from kdq.distill.standardize import compared
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, Literal, NonNegative, Temperature


class Parameters(Logits):
    refuses: ClassVar = {"mixup": "this method mixes by itself, see its key concentration"}
    concentration: Annotated[
        float,
        Field(
            ge=0.01, le=100, description="both parameters of the Beta distribution of the mixing share; 1 is uniform"
        ),
    ] = 1.0
    labels: Annotated[
        Literal["none", "mixed"],
        Field(description="`none`: the teacher alone, as in function matching; `mixed`: the mixed labels too"),
    ] = "none"
    label_weight: Annotated[NonNegative, Field(description="weight of the mixed labels, if they are used")] = 0.1
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 1.0
    temperature: Annotated[
        Temperature, Field(description="softens both predictions: softmax(logits / temperature)")
    ] = 1.0

    def inconsistency(self) -> str:
        if self.labels == "none" and self.label_smoothing:
            return f"label_smoothing: found {self.label_smoothing} beside labels=none, expected labels=mixed with it"
        return ""


class Mixup(Method):
    def view(self, batch: Batch, generator: torch.Generator) -> Batch:
        return mixed(batch, self.keys.concentration, generator)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        logits = compared(keys.standardize, student.logits, teacher.logits)
        terms = {"distillation": keys.distillation_weight * match(*logits, keys.temperature)}
        if keys.labels == "mixed":
            terms["cross_entropy"] = keys.label_weight * self.label_loss(batch, student)
        return terms
