"""Knowledge review: the student's stages, fused from the deepest up, match the teacher's stage by stage.

Source: Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021, arXiv:2104.09044.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.keys import Warmup
from kdq.distill.method import Method, Outputs, Taps
from kdq.distill.normalize import average_pool
from kdq.distill.stages import deepest_stages
from kdq.recipe.vocabulary import Annotated, Field, NonNegative


class Parameters(Warmup):
    weight: Annotated[
        NonNegative,
        Field(description="weight of the review; published: 0.6 and 1 for thin networks, 5 for wide ones"),
    ] = 1.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "feature maps"


LEVELS = (4, 2, 1)  # sides of the grids that the context loss compares in addition to the whole map
WIDEST_MIDDLE = 512  # the residual is as wide as the student's embedding, but at most this


def hcl(student_features: list[Tensor], teacher_features: list[Tensor]) -> Tensor:
    """Return the hierarchical context loss: a scalar, the sum over pairs of feature maps, 0 if they agree.

    Features are (B, C, H, W), both of a pair of one shape. A pair's term is the weighted mean of the mean squared
    errors of the maps (weight 1) and of their means on grids of 4 x 4, 2 x 2 and 1 x 1 (weights 1/2, 1/4, 1/8 in
    turn); a grid as large as the map is left out (arXiv:2104.09044).
    """
    return sum(_context(*pair) for pair in zip(student_features, teacher_features, strict=True))


def _context(student: Tensor, teacher: Tensor) -> Tensor:
    wide = torch.promote_types(student.dtype, torch.float32)
    student, teacher = student.to(wide), teacher.to(wide)
    loss, weight, total = F.mse_loss(student, teacher), 1.0, 1.0
    finest = student - teacher  # pooling is linear: the difference is pooled, once for both
    for level in LEVELS:
        if level < min(student.shape[2:]):
            weight /= 2
            pooled = average_pool(finest, (level, level))
            loss = loss + weight * pooled.square().mean()
            total += weight
            if all(side % level == 0 for side in finest.shape[2:]):
                finest = pooled  # the means of its windows equal those of the map's
    return loss / total


class Fusion(nn.Module):
    """Attention-based fusion of a stage's feature with the residual of the stage above.

    The feature (B, ``inputs``, H, W) is projected to the width ``middle``. If there is a residual (``fuses``), two
    attention maps computed from both weight them at each position. Return the map to compare, as wide as the
    teacher's (``outputs``), and the residual for the stage below, both of the teacher's ``size``.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, *, fuses: bool):
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuses else None
        self.widen = nn.Sequential(nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        for convolution in (self.narrow[0], self.widen[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, feature: Tensor, residual: Tensor | None, size) -> tuple[Tensor, Tensor]:
        x = self.narrow(feature)
        if self.attention is not None:
            above = F.interpolate(residual, x.shape[2:], mode="nearest")
            weight, weight_above = self.attention(torch.cat([x, above], 1)).sigmoid().split(1, 1)
            x = x * weight + above * weight_above
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode="nearest")
        return self.widen(x), x


class ReviewKD(Method):
    """One fusion per stage, trained together with the student; the embedding is the top stage, a map of 1 x 1.

    As in the published code the student's maps are those after a stage's last activation, and the teacher's maps,
    which they match, those before it. Compared are the last stages, as many as both networks have.
    """

    def taps(self, student: nn.Module, teacher: nn.Module) -> tuple[Taps, Taps]:
        student_stages, teacher_stages = deepest_stages(student, teacher)
        before = {stage: f"{stage}.preactivation" for stage in teacher_stages}
        # a network of timm or torchvision has no such taps
        targets = (before[stage] if before[stage] in teacher.taps else stage for stage in teacher_stages)
        return (*student_stages, "embedding"), (*targets, "embedding")

    def build(self, student: Outputs, teacher: Outputs, training_labels: Tensor) -> None:
        inputs, outputs = ([maps.shape[1] for maps in _maps(side)] for side in (student, teacher))
        middle, last = min(WIDEST_MIDDLE, inputs[-1]), len(inputs) - 1
        self.fusions = nn.ModuleList(
            Fusion(width, middle, target_width, fuses=index != last)
            for index, (width, target_width) in enumerate(zip(inputs, outputs, strict=True))
        )

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        maps, targets = _maps(student), _maps(teacher)
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "review": self.growth(batch.epoch) * keys.weight * hcl(self.review(maps, targets), targets),
        }

    def review(self, maps: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
        """Return the student's maps, fused from the last to the first, in the shapes of the teacher's."""
        residual, reviewed = None, []
        for fusion, feature, target in reversed(list(zip(self.fusions, maps, targets, strict=True))):
            output, residual = fusion(feature, residual, target.shape[2:])
            reviewed.insert(0, output)
        return reviewed


def _maps(outputs: Outputs) -> list[Tensor]:
    """Return the features as maps (B, C, H, W)."""
    return [feature if feature.dim() == 4 else feature[:, :, None, None] for feature in outputs.features.values()]
