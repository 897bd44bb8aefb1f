"""Attention transfer: the student matches the teacher's spatial attention maps after each stage of the network.

Source: Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv:1612.03928.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.method import Method, Outputs, Taps
from kdq.distill.normalize import average_pool, rescaled, unit
from kdq.distill.stages import deepest_stages
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal, NonNegative


class Parameters(Base):
    norm: Annotated[
        Literal["mean", "paper"],
        Field(
            description="distance of two maps: `mean` of the squared differences, as in published code, or `paper`: "
            "the L2 norm of equation 2"
        ),
    ] = "mean"
    power: Annotated[float, Field(ge=1, le=16, description="p of a map: the mean over channels of abs(feature)^p")] = (
        2.0
    )
    distillation_weight: Annotated[
        NonNegative,
        Field(
            description="weight of the match with the teacher; for `norm=paper` divide it by the elements of a map: 15 "
            "at 8x8"
        ),
    ] = 1000.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "feature maps"


def attention_map(feature: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean over channels of |feature|^power for a feature (B, C, H, W): (B, H W), rows of L2 norm 1."""
    return unit(rescaled(feature).abs().pow(power).mean(1).flatten(1))


def attention_transfer(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], power: float = 2.0, norm: str = "mean"
) -> Tensor:
    """Return the distance of the networks' attention maps Q, summed over the features: a scalar, 0 if the maps agree.

    Features are (B, C, H, W), one list per network, in the same order. Channels may differ; if sizes differ, the
    larger feature is pooled to the smaller. The loss does not depend on the scale of a feature.

    Published code and paper differ. ``norm="mean"``, the code: mean over the batch and the map of (Q_s - Q_t)^2, which
    with weight 1000 is the published setting. ``norm="paper"``, equation 2: the L2 norm of Q_s - Q_t, here averaged
    over the batch; the paper's beta / 2 is the weight, and its beta is 1000 by the elements of a map and the batch.
    """
    if norm not in ("mean", "paper"):
        raise ValueError(f"norm: found {norm!r}, expected 'mean' or 'paper'")
    distances = []
    for student, teacher in zip(student_features, teacher_features, strict=True):
        size = tuple(map(min, student.shape[2:], teacher.shape[2:]))
        student_map, teacher_map = (attention_map(_pooled(feature, size), power) for feature in (student, teacher))
        difference = student_map - teacher_map
        distance = difference.square() if norm == "mean" else torch.linalg.vector_norm(difference, dim=1)
        distances.append(distance.mean())
    return torch.stack(distances).sum()


def _pooled(feature: Tensor, size: tuple[int, int]) -> Tensor:
    # rescaled so that the averages can't overflow
    return feature if feature.shape[2:] == size else average_pool(rescaled(feature), size)


class AttentionTransfer(Method):
    """Compare the maps after the last stages of both networks, as many as both have."""

    def taps(self, student: nn.Module, teacher: nn.Module) -> tuple[Taps, Taps]:
        return deepest_stages(student, teacher)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        maps = (list(side.features.values()) for side in (student, teacher))
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distillation": keys.distillation_weight * attention_transfer(*maps, keys.power, keys.norm),
        }
