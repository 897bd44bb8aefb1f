"""Deep mutual learning: two networks learn from the labels and from each other, at once.

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
from kdq.models.network import Network
from kdq.recipe.vocabulary import Annotated, Field, Literal, NonNegative, Positive
from kdq.roots.sources.keys import Fetched


class Parameters(Logits, Start):
    temperature: Annotated[Positive, Field(description="softens both predictions: softmax(logits / temperature)")] = 1.0
    weight: Annotated[NonNegative, Field(description="weight of the match with the other network")] = 1.0
    start: Annotated[
        Literal["parent", "fresh"],
        Field(description="the peer begins as the `parent` model, or `fresh` with new weights of its architecture"),
    ] = "parent"


def dml(student_logits: Tensor, peer_logits: Tensor, temperature: float) -> Tensor:
    """temperature^2 KL(peer || student), mean over the batch: a scalar, 0 where the logits agree.

    Logits are (B, C). The peer's carry no gradient back: each network is moved by its own terms only. Source: equation
    6, where the temperature is 1; the factor temperature^2 keeps the gradient's size independent of it.
    """
    return match(student_logits, peer_logits.detach(), temperature)


class DML(Method):
    """Both networks see a batch before either is updated, and each has the loss CE + weight KL(other || own).

    The sum of both losses is minimised by one optimizer. As no term reaches both networks and SGD works parameter by
    parameter, that is what two optimizers of the same settings do. The network that is saved is the better one on the
    validation part where the peer has the student's architecture, otherwise the student.
    """

    teacher_learns = True

    def start(self, student: nn.Module, log) -> None:
        if self.keys.student == "imagenet":
            start_from_imagenet(student, {key: getattr(self.keys, key) for key in Fetched.model_fields}, log)

    def peer(self, parent: nn.Module) -> nn.Module:
        if self.keys.start == "parent":
            return super().peer(parent)
        if not isinstance(parent, Network):
            raise UserError("dml: start: found fresh beside a parent from outside, expected parent")
        # drawn after the student's weights from the same stream of random numbers, so never the same as those; random
        # layers before the classifier belong to the weights that they were made for
        return registry.build(**{**parent.architecture, "head": None})

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        own, other = compared(keys.standardize, student.logits, teacher.logits)
        return {
            "cross_entropy": self.label_loss(batch, student),
            "mutual": keys.weight * dml(own, other, keys.temperature),
            "peer_cross_entropy": self.label_loss(batch, teacher),
            "peer_mutual": keys.weight * dml(other, own, keys.temperature),
        }
