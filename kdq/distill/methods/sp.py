"""Similarity-preserving distillation: images that are alike to the teacher are alike to the student.

Source: Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv:1907.09682.
"""

from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.method import Method, Outputs
from kdq.distill.normalize import product, rescaled, unit
from kdq.recipe.vocabulary import Annotated, Base, Field, NonNegative


class Parameters(Base):
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 3000.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0


def similarities(features: Tensor) -> Tensor:
    """Inner products of a batch's features (B, ...) with each other, (B, B), each row divided by its L2 norm."""
    rows = rescaled(features).flatten(1)
    return unit(product(rows, rows.mT))


def sp(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """|| G_s - G_t ||_F^2 / B^2 for the similarities G of two features (B, ...): a scalar, 0 where they agree.

    Everything after the first dimension is flattened and may differ in size. The paper sums over pairs of
    layers, published benchmarks take the last feature map alone, with weight 3000. The scale of a whole feature does
    not matter, that of a single image's does.
    """
    return (similarities(student_features) - similarities(teacher_features)).square().mean()


class SimilarityPreserving(Method):
    features = ("layer4",)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distillation": keys.distillation_weight * sp(student.features["layer4"], teacher.features["layer4"]),
        }
