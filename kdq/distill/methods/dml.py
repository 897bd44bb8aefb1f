"""Deep mutual learning: two networks learn from the labels and from each other at the same time.

Source: Zhang et al., Deep Mutual Learning, CVPR 2018, arXiv:1706.00384.
"""

from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.divergence import match
from kdq.distill.imagenet_start import start_from_imagenet
from kdq.distill.keys import Logits, Start
from kdq.distill.method import Method, Outputs
from kdq.distill.standardize import compared
from kdq.errors import UserError
from kdq.models import registry
from kdq.models.activations import has_quantizers
from kdq.recipe.vocabulary import Annotated, Field, Literal, NonNegative, Temperature
from kdq.roots.sources.keys import Fetched


class Parameters(Logits, Start):
    temperature: Annotated[
        Temperature, Field(description="softens both predictions: softmax(logits / temperature)")
    ] = 1.0
    weight: Annotated[NonNegative, Field(description="weight of the match with the other network")] = 1.0
    start: Annotated[
        Literal["parent", "fresh"],
        Field(description="the peer begins as the `parent` model, or `fresh` with new weights of its architecture"),
    ] = "parent"

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "the architecture" if keys["start"] == "fresh" else ""


def dml(student_logits: Tensor, peer_logits: Tensor, temperature: float) -> Tensor:
    """Return temperature^2 KL(peer || student), mean over the batch: a scalar, 0 if the logits agree.

    Logits are (B, C). No gradient flows through the peer's: each network is trained by its own terms only. Source:
    equation 6, with temperature 1; the factor temperature^2 keeps the gradient's size independent of it.
    """
    return match(student_logits, peer_logits.detach(), temperature)


class DML(Method):
    """Minimise CE + weight KL(other || self) for each of two networks, both on a batch before either is updated.

    Algorithm 1 of the paper updates one network after the other, which takes one more forward pass per batch.
    One optimizer minimises the sum of both losses. No term depends on both networks and SGD works parameter by
    parameter, so this equals two optimizers with the same settings. Saved is the network that is better on the
    validation part if the peer has the student's architecture, otherwise the student.
    """

    teacher_learns = True

    def start(self, student: nn.Module, log) -> None:
        if self.keys.student == "imagenet":
            start_from_imagenet(student, {key: getattr(self.keys, key) for key in Fetched.model_fields}, log)

    def peer(self, parent: nn.Module) -> nn.Module:
        if self.keys.start == "parent":
            if has_quantizers(parent):
                raise UserError(
                    "dml: start: found parent, whose quantized activations have no gradient, expected fresh, or a "
                    "parent with float activations"
                )
            return super().peer(parent)
        if not hasattr(parent, "architecture"):
            raise UserError("dml: start: found fresh, but the parent is a network of transformers, expected parent")
        # drawn after the student's weights from the same stream, so never equal to them; without random layers before
        # the classifier, which belong to the weights that they were made for
        return registry.build(**{key: value for key, value in parent.architecture.items() if key != "head"})

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        student_logits, peer_logits = compared(keys.standardize, student.logits, teacher.logits)
        return {
            "cross_entropy": self.label_loss(batch, student),
            "mutual": keys.weight * dml(student_logits, peer_logits, keys.temperature),
            "peer_cross_entropy": self.label_loss(batch, teacher),
            "peer_mutual": keys.weight * dml(peer_logits, student_logits, keys.temperature),
        }
