"""Probabilistic knowledge transfer: the student's embeddings have the same neighbours as the teacher's.

Source: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018,
arXiv:1803.10837.
"""

from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.method import Method, Outputs
from kdq.distill.normalize import product, rescaled, unit
from kdq.recipe.vocabulary import Annotated, Base, Field, NonNegative

LEAST_PROBABILITY = 1e-7  # added inside the logarithm, as in the published code


class Parameters(Base):
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 30000.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "the embedding"


def neighbours(embedding: Tensor) -> Tensor:
    """Return the neighbour probabilities (B, B) of an embedding (B, ...): (cos + 1) / 2, each row of sum 1."""
    rows = unit(rescaled(embedding).flatten(1))
    similarity = ((product(rows, rows.mT) + 1) / 2).clamp_min(0)  # rounding can make it negative for opposite rows
    return similarity / similarity.sum(1, keepdim=True)


def pkt(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Return the divergence of the neighbours, the mean over all B^2 pairs of p_t log(p_t / p_s): a scalar.

    Embeddings are (B, ...), flattened; their sizes may differ. 0 if the neighbours agree, whatever the scale of each
    row. Published code and paper differ: the paper leaves out the probability of a row to be its own neighbour and
    sums the divergence; the code, like this function, keeps it and takes the mean over pairs, hence the weight 30000.
    The code adds 1e-7 to the norms too; here a row of zeros has cosine 0 with all rows, and no gradient.
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
