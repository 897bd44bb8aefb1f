"""Relational knowledge distillation: distances and angles between the student's embeddings match the teacher's.

Source: Park et al., Relational Knowledge Distillation, CVPR 2019, arXiv:1904.05068.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdq.data.batches import Batch
from kdq.distill.method import Method, Outputs
from kdq.distill.normalize import product
from kdq.recipe.vocabulary import Annotated, Base, Field, NonNegative

COINCIDENT = 1e-6  # of the batch's spread: closer embeddings count as equal
CHUNK_ELEMENTS = 2**22  # cosines in memory at once, but at least the B x B of one anchor


class Parameters(Base):
    distance_weight: Annotated[NonNegative, Field(description="weight of the match of distances between pairs")] = 25.0
    angle_weight: Annotated[NonNegative, Field(description="weight of the match of angles in triplets")] = 50.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "the embedding"


def relative_distances(embedding: Tensor) -> Tensor:
    """Return the L2 distances (B, B) between the rows of an embedding (B, D), divided by their mean over pairs.

    In float32 or wider, with a zero diagonal. Rows that coincide have distance 0 and no gradient from each other.
    Computed from products in float64: no tensor (B, B, D), and small differences of large embeddings keep their digits.
    """
    exact = embedding.double()
    centred = exact - exact.mean(0)
    gram = product(centred, centred.mT)
    squared_norms = gram.diagonal()
    squares = squared_norms[:, None] + squared_norms - 2 * gram
    apart = squares > COINCIDENT**2 * squared_norms.detach().mean()
    distances = torch.where(apart, squares, 1).sqrt() * apart
    count = len(embedding)
    # the published mean over positive distances, without a shape that depends on the data
    mean = distances.sum() / max(count * (count - 1), 1)
    relative = distances / torch.where(mean > 0, mean, 1)
    return relative.to(torch.promote_types(embedding.dtype, torch.float32))


def rkd_terms(student_embedding: Tensor, teacher_embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(distance, angle)``, scalars: smooth L1 differences, means over all B^2 pairs and all B^3 triplets.

    Embeddings are (B, D); D may differ. Published code and paper differ: the paper takes pairs and triplets of
    different rows, the code, like this function, takes means over the degenerate ones too. Memory grows as B^2, that
    of the gradient included.
    """
    student, teacher = relative_distances(student_embedding), relative_distances(teacher_embedding)
    # the cosines follow from the distances, so nothing else is kept
    wide = torch.promote_types(student.dtype, teacher.dtype)
    student, teacher = student.to(wide), teacher.to(wide)
    return F.smooth_l1_loss(student, teacher), _AngleTerm.apply(student, teacher)


def rkd(student_embedding: Tensor, teacher_embedding: Tensor, distance_weight: float, angle_weight: float) -> Tensor:
    """Return distance_weight L_D + angle_weight L_A of two embeddings (B, D): a scalar, 0 if all relations agree.

    Invariant to scale, rotation and translation of an embedding. Published weights: 25 and 50.
    """
    distance, angle = rkd_terms(student_embedding, teacher_embedding)
    return distance_weight * distance + angle_weight * angle


class _AngleTerm(torch.autograd.Function):
    """Smooth L1 difference of the angles that two matrices of distances (B, B) imply, mean over all triplets.

    The gradient is computed in the forward pass, some anchors at a time: nothing of size (B, B, B) is kept.
    (torch.utils.checkpoint would do, but it imports torch's compiler, which takes as long as importing torch.)
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor) -> Tensor:
        count = len(student)
        pairs = zip((student, teacher), ctx.needs_input_grad, strict=True)
        sides = [side.detach().requires_grad_(needed) for side, needed in pairs]
        wanted = [side for side in sides if side.requires_grad]
        gradients = [torch.zeros_like(side) for side in wanted]
        total = student.new_zeros(())
        anchors = max(1, CHUNK_ELEMENTS // count**2)
        for first in range(0, count, anchors):
            with torch.enable_grad():
                cosines = (_cosines(side, slice(first, first + anchors)) for side in sides)
                part = F.smooth_l1_loss(*cosines, reduction="sum") / count**3
            total += part.detach()
            if wanted:
                for gradient, share in zip(gradients, torch.autograd.grad(part, wanted), strict=True):
                    gradient += share
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        gradients = iter(ctx.saved_tensors)
        return tuple(upstream * next(gradients) if needed else None for needed in ctx.needs_input_grad)


def _cosines(distances: Tensor, anchors: slice) -> Tensor:
    """Return cos of the angle at each anchor between the rows j and k, (anchors, B, B), by the law of cosines.

    0 if j or k coincides with the anchor, as in the published code for an edge of length 0.
    """
    edges = distances[anchors]
    apart = edges > 0
    inverses = apart / torch.where(apart, edges, 1)
    squares = edges.square()
    numerators = squares[:, :, None] + squares[:, None] - distances.square()
    return numerators * (0.5 * inverses[:, :, None] * inverses[:, None])


class RKD(Method):
    features = ("embedding",)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        distance, angle = rkd_terms(student.features["embedding"], teacher.features["embedding"])
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distance": keys.distance_weight * distance,
            "angle": keys.angle_weight * angle,
        }
