"""NTK-LC: the classifier becomes wide random layers of ternary weights and few levels, with a trained readout.

Source: Gu et al., "Lossless" Compression of Deep Neural Networks: A High-dimensional Neural Tangent Kernel Approach,
NeurIPS 2022, arXiv:2403.00258. As in its experiment on CIFAR-10 the convolutional part stays as it is, quantized or
not, and no trained weight is rounded: the claim is that the kernel of the random layers, hence what can be learnt on
top of them, is that of Gaussian weights and ReLU (``head=dense``). How close two and three levels come to it is
described in ``kdq.retrain.random_features.activation_match``.

The theory assumes large sizes, including (1 - zeros) times the embedding's, the number of a neuron's nonzero weights.
The default of 0.95 leaves 26 of 512 inputs, but 3 of 64: what is measured there does not test the theory.

Unlike in the published code, all features are centred and scaled by the training part's statistics, those of the test
part too; weights are drawn independently and not in exact shares; the cross entropy is that of logits, not of their
softmax. The readout's inputs are of size tau, 0.2 for a dense head and 0.5 for a compressed one: at the published
learning rate of 0.01 training takes some hundred epochs, at 5 or more a few.
"""

from dataclasses import replace
from functools import cached_property
from math import log2, sqrt

import torch
from torch import Tensor, nn

from kdq.data.batches import evaluation_batches
from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.models.activations import attach, detach_quantizers
from kdq.models.channels import KEY as SHRUNK
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.model import Model
from kdq.models.network import Network
from kdq.models.random_head import RandomHead
from kdq.recipe.vocabulary import Annotated, Base, ClassVar, Field, Literal
from kdq.retrain.method import Retraining
from kdq.retrain.random_features.activation_match import Match, match_relu
from kdq.retrain.random_features.conjugate_kernel import coefficients
from kdq.train.task import Classification

LAYERS = 3
FEWEST_WEIGHTS = 16  # nonzero, per neuron; with fewer the sum of a neuron's inputs is far from a normal variable


class Parameters(Base):
    float_parent: ClassVar = True
    refuses: ClassVar = {"teacher": "NTK-LC learns from the labels alone"}
    head: Annotated[
        Literal["compressed", "dense"],
        Field(
            description="random layers before the classifier: `compressed`, ternary weights and activations of few "
            "levels, or `dense`, the network that they stand for, with Gaussian weights in float32 and ReLU"
        ),
    ] = "compressed"
    neurons: Annotated[int, Field(ge=1, le=65536, description="width of the first two random layers")] = 400
    last_neurons: Annotated[
        int, Field(ge=1, le=65536, description="width of the third, which the classifier reads")
    ] = 200
    zeros: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="`compressed`: probability that a weight is 0; else it is +-1 by a factor; 0.95 leaves 26 of "
            "512 inputs, but 3 of 64, which is no test of the method: narrow embeddings need less",
        ),
    ] = 0.95
    last_activation: Annotated[
        Literal["published", "exact"],
        Field(
            description="`compressed`: the third activation: `published` has three levels and the least sum of squared "
            "mismatches of d1^2, d2^2, d3 and tau^2 of ReLU, `exact` two levels and the first three alone, which it has"
        ),
    ] = "published"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if values.get("head", "compressed") == "compressed":
            return {}
        return dict.fromkeys(("zeros", "last_activation"), "head=dense does not read this key")

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "the embedding"

    @classmethod
    def misfit(cls, keys: dict, networks: dict) -> str:
        if reshaped := networks["parent"].reshaped:
            return f"found a parent whose channels were pruned ({'/'.join(reshaped)}), expected its architecture's own"
        return ""


def ternary_step(zeros: float) -> float:
    """Return the magnitude of the nonzero weights that makes the variance 1."""
    return (1 - zeros) ** -0.5


def ternary(shape, zeros: float) -> Tensor:
    """Return independent random weights in float32: 0 with probability ``zeros``, else of a random sign."""
    signs = 2 * torch.randint(0, 2, shape) - 1
    return signs * (torch.rand(shape) >= zeros) * torch.tensor(ternary_step(zeros))


def entropy_bits(codes: Tensor) -> float:
    """Return the empirical entropy of the codes in bits per code, a lower bound for coding them independently."""
    shares = codes.unique(return_counts=True)[1].double() / codes.numel()
    return -sum(share * log2(share) for share in shares.tolist())


@torch.no_grad()
def embeddings(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Return the embeddings (M, D), in float32, of uint8 ``images`` (M, C, H, W), not augmented."""
    batches = (batch.to(device) for batch in evaluation_batches(images))
    return torch.cat([network(batch, taps=("embedding",))[1]["embedding"].float() for batch in batches])


class Readout(Classification):
    """A network whose last linear layer alone is trained; all else is frozen, running statistics too."""

    def __init__(self, network: nn.Module):
        super().__init__(network.requires_grad_(False))
        network.last_layer.classifier.requires_grad_(True)

    def train(self, mode: bool = True):
        return super().train(False)


class NTKLC(Retraining):
    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Readout:
        network = parent.network
        if not isinstance(network, Network):
            raise UserError(
                f"ntklc: found a parent that is no network of this package ({type(network).__name__}), expected one"
            )
        if SHRUNK in parent.architecture:
            raise UserError("ntklc: found a parent whose channels were pruned, expected one of its architecture's own")
        attach(network, self._points(parent)).to(device)
        embedding = embeddings(network, prepared.train.images, device).double()
        head = RandomHead(embedding.shape[1], len(prepared.classes), **self.head)
        head.mean.copy_(embedding.mean(0))
        head.scale.copy_((embedding - embedding.mean(0)).square().sum(1).mean().sqrt())
        for layer in head.layers:
            if self.keys.head == "dense":
                nn.init.normal_(layer.weight)
            else:
                layer.weight.copy_(ternary(layer.weight.shape, self.keys.zeros))
        self._describe(head)
        network.replace_classifier(head.to(device))
        return Readout(network)

    def _points(self, parent: Model) -> list[Point]:
        """Return the parent's quantized activations but for those of the classifier, which is replaced."""
        classifier = parent.network.classifier_name
        readers = [[name for name in point.readers if name != classifier] for point in parent.codes.points]
        return [replace(p, readers=tuple(left)) for p, left in zip(parent.codes.points, readers, strict=True) if left]

    def model(self, task: Readout, parent: Model) -> Model:
        classifier = f"{task.network.classifier_name}."
        before, floats = (
            {name: layer for name, layer in layers.items() if not f"{name}.".startswith(classifier)}
            for layers in (parent.codes, getattr(parent.codes, "kept", {}))
        )
        detach_quantizers(task.network)
        random = self._codes(task.network) if self.keys.head == "compressed" else {}
        codes = Codes(before | random, kept=floats, points=self._points(parent))
        return Model(task.network, {**parent.architecture, "head": self.head}, codes)

    @cached_property
    def matches(self) -> list[Match]:
        return match_relu(LAYERS, last_tau=self.keys.last_activation == "published")

    @property
    def head(self) -> dict:
        """The arguments of RandomHead except for the sizes of its ends, for the header of the file."""
        keys = self.keys
        if keys.head == "dense":
            activations = [{"mean": match.target.mean} for match in self.matches]
        else:
            activations = [
                {"levels": list(steps.levels), "thresholds": list(steps.thresholds), "mean": matched.mean}
                for steps, matched in ((match.steps, match.matched) for match in self.matches)
            ]
        return {"widths": [keys.neurons] * (LAYERS - 1) + [keys.last_neurons], "activations": activations}

    def _codes(self, network: Network) -> dict[str, QuantizedWeight]:
        """Return the codes of the random layers; their facts hold the residual mismatch of the activation."""
        weights = {}
        for index, (layer, match) in enumerate(zip(network.last_layer.layers, self.matches, strict=True)):
            codes = layer.weight.detach().cpu().sign().short()
            facts = {
                "levels": "ternary",
                "entropy_bits": round(entropy_bits(codes), 6),
                "activation_residual": round(match.residual, 9),
            }
            weights[f"{network.classifier_name}.layers.{index}"] = QuantizedWeight(
                codes, torch.tensor([ternary_step(self.keys.zeros)]), -1, 1, 2, facts
            )
        return weights

    def _describe(self, head: RandomHead) -> None:
        """Log how close the compressed layers' kernel is to that of the dense ones, and where theirs is none."""
        if self.keys.head == "dense":
            return
        for index, layer in enumerate(head.layers, 1):
            if (weights := (1 - self.keys.zeros) * layer.in_features) < FEWEST_WEIGHTS:
                self.log(
                    f"layer {index}: {weights:.3g} nonzero weights per neuron, expected at least {FEWEST_WEIGHTS}: "
                    "the theory is not tested at this size; fewer zeros or a wider network may help"
                )
        for index, match in enumerate(self.matches, 1):
            tau, of_relu = sqrt(match.matched.tau_squared), sqrt(match.target.tau_squared)
            self.log(f"activation {index}: residual {match.residual:.3g}, tau {tau:.4f}, of ReLU {of_relu:.4f}")
        compressed, dense = (
            coefficients([getattr(match, side) for match in self.matches]) for side in ("matched", "target")
        )
        for name, steps, relu in zip(("a1", "a2", "a3"), compressed, dense, strict=True):
            self.log(f"kernel coefficient {name}: {steps:.6f}, of ReLU {relu:.6f}")
