"""Distillation on mixed images: function matching, the teacher sees the very tensor that the student sees.

Sources: Beyer et al., Knowledge Distillation: A Good Teacher is Patient and Consistent, arXiv:2106.05237; Zhang et al.,
mixup: Beyond Empirical Risk Minimization, arXiv:1710.09412.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.divergence import kl
from kdq.distill.method import Method, Outputs
from kdq.parameters import Annotated, Base, Field, Literal, NonNegative, Positive


class Parameters(Base):
    concentration: Annotated[
        Positive, Field(description="both parameters of the Beta distribution of the mixing share; 1 is uniform")
    ] = 1.0
    labels: Annotated[
        Literal["none", "mixed"],
        Field(description="`none`: the teacher alone, as in function matching; `mixed`: the mixed labels too"),
    ] = "none"
    label_weight: Annotated[NonNegative, Field(description="weight of the mixed labels, where they are used")] = 0.1
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 1.0
    temperature: Annotated[Positive, Field(description="softens both predictions: softmax(logits / temperature)")] = 1.0


def mix(images: Tensor, share: float) -> Tensor:
    """share x_i + (1 - share) x_(i-1) for images x (B, C, H, W): each image's partner is the one before it."""
    return torch.lerp(images.roll(1, 0), images, share)


def mixed_cross_entropy(logits: Tensor, labels: Tensor, partner_labels: Tensor, share: float) -> Tensor:
    """Cross entropy with share of ``labels`` and 1 - share of ``partner_labels``, mean over the batch."""
    return share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, partner_labels)


class Mixup(Method):
    def view(self, batch: Batch, generator: torch.Generator) -> Batch:
        concentration = torch.full((2,), self.keys.concentration, dtype=torch.float64)
        # a Beta share from two Gammas: torch's Beta distribution takes no generator, and a resumed run needs one
        gammas = torch._standard_gamma(concentration, generator=generator)
        share = (gammas[0] / gammas.sum()).item()
        share = max(share, 1 - share)  # the label of an image stays that of its larger part
        return batch.with_images(mix(batch.images, share), partner_labels=batch.labels.roll(1, 0), mixing=share)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        match = keys.temperature**2 * kl(student.logits, teacher.logits, keys.temperature).mean()
        terms = {"distillation": keys.distillation_weight * match}
        if keys.labels == "mixed":
            mixed = mixed_cross_entropy(student.logits, batch.labels, batch.partner_labels, batch.mixing)
            terms["cross_entropy"] = keys.label_weight * mixed
        return terms
