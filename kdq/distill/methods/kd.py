"""Knowledge distillation: the student matches the teacher's softened predictions.

Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
"""

from torch import Tensor

from kdq.data.batches import Batch
from kdq.distill.divergence import match, soft_cross_entropy
from kdq.distill.keys import Logits
from kdq.distill.method import Method, Outputs
from kdq.distill.standardize import compared
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, Literal, NonNegative, Temperature


class Parameters(Logits):
    logits_only: ClassVar = True
    temperature: Annotated[
        Temperature, Field(description="softens both predictions: softmax(logits / temperature)")
    ] = 4.0
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 0.1
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher")] = 0.9
    loss: Annotated[
        Literal["kl", "ce"],
        Field(description="`kl`: divergence from the teacher; `ce`: cross entropy with its soft labels, same gradient"),
    ] = "kl"


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return temperature^2 KL(teacher || student), mean over the batch: a scalar, 0 if the logits agree.

    Logits are (B, C). Equation: T^2 / B sum_b sum_c p_t (log p_t - log p_s), p = softmax(z / T); the factor T^2 keeps
    the gradient's size independent of T (arXiv:1503.02531, section 2).
    """
    return match(student_logits, teacher_logits, temperature)


def kd_soft_labels(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return - temperature^2 sum_c p_t log p_s, mean over the batch: ``kd`` + temperature^2 H(teacher)."""
    return temperature**2 * soft_cross_entropy(student_logits, teacher_logits, temperature).mean()


class KD(Method):
    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        student_logits, teacher_logits = compared(keys.standardize, student.logits, teacher.logits)
        loss = kd if keys.loss == "kl" else kd_soft_labels
        return {
            "cross_entropy": keys.label_weight * self.label_loss(batch, student),
            "distillation": keys.distillation_weight * loss(student_logits, teacher_logits, keys.temperature),
        }
