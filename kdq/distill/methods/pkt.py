"""Probabilistic knowledge transfer: the student's embeddings have the neighbours that the teacher's have.

Source: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018,
arXiv:1803.10837.
"""

from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.method import Method, Outputs
from kdq.distill.normalize import product, rescaled, unit
from kdq.recipe.vocabulary import Annotated, Base, Field, NonNegative

LEAST_PROBABILITY = 1e-7  # added in the logarithm, as published code does


class Parameters(Base):
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 30000.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0


def neighbours(embedding: Tensor) -> Tensor:
    """Probability of each row of an embedding (B, ...) to be another's neighbour: (cos + 1) / 2, rows of sum 1."""
    rows = unit(rescaled(embedding).flatten(1))
    similarity = ((product(rows, rows.mT) + 1) / 2).clamp_min(0)  # opposite rows can round to less
    return similarity / similarity.sum(1, keepdim=True)


def pkt(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Divergence of the student's neighbours from the teacher's: mean over all B^2 pairs of p_t log(p_t / p_s).

    Embeddings are (B, ...), flattened; their sizes may differ. A scalar, 0 where the neighbours agree. The scale of
    no row matters. Published code and paper differ: the paper leaves out a row's probability to be its own neighbour
    and sums the divergence; the code, and this, keep it and take the mean over pairs, hence the weight 30000.
    The code adds 1e-7 to the norms too; here a row of zeros has cosine 0 with all, without gradient.
    """
    student, teacher = neighbours(student_embedding), neighbours(teacher_embedding)
    return (teacher * ((teacher + LEAST_PROBABILITY).log() - (student + LEAST_PROBABILITY).log())).mean()


class PKT(Method):
    features = ("embedding",)

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        match = pkt(student.features["embedding"], teacher.features["embedding"])
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distillation": keys.distillation_weight * match,
        }
