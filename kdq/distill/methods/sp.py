"""Similarity-preserving distillation: images with similar features in the teacher have similar ones in the student.

Source: Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv:1907.09682.
"""

from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.method import Method, Outputs, Taps
from kdq.distill.normalize import product, rescaled, unit
from kdq.distill.stages import stages_of
from kdq.recipe.vocabulary import Annotated, Base, Field, NonNegative


class Parameters(Base):
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 3000.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "feature maps"


def similarities(features: Tensor) -> Tensor:
    """Return the inner products (B, B) of a batch's features (B, ...), each row divided by its L2 norm."""
    rows = rescaled(features).flatten(1)
    return unit(product(rows, rows.mT))


def sp(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Return || G_s - G_t ||_F^2 / B^2 for the similarities G of two features (B, ...): a scalar, 0 if they agree.

    Dimensions after the first are flattened and may differ in size. The paper sums over pairs of layers; published
    benchmarks take the last feature map alone, with weight 3000. The loss does not depend on the scale of a whole
    feature, but on that of a single image's.
    """
    return (similarities(student_features) - similarities(teacher_features)).square().mean()


class SimilarityPreserving(Method):
    """Compare the similarities after the last stage of both networks."""

    def taps(self, student: nn.Module, teacher: nn.Module) -> tuple[Taps, Taps]:
        return stages_of(student)[-1:], stages_of(teacher)[-1:]

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distillation": keys.distillation_weight * sp(*student.features.values(), *teacher.features.values()),
        }
