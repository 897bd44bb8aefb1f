"""BRECQ: learn the roundings of all weights of a residual block together, on the error of the block's output.

Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang, Gu: BRECQ: pushing the limit of post-training quantization by block
reconstruction (2021, arXiv:2102.05426). Block after block, with z the output of the float network's block and z~ that
of the same block with quantized weights on what the quantized network gives it,

    sum F (z - z~)^2,    F = (dL / dz)^2,

descends, by Adam on batches of images, with the soft rounding of AdaRound, :mod:`kdq.quantize.solver.soft_rounding`.
F is the diagonal of the Fisher information: L is the loss of a label that is drawn from the float network's own
predictions. Layers of one block make up for each other; blocks do not, which would fit the calibration images only.

The error is multiplied by the squared distance of nearest codes from the float weights, in steps, over the error that
they alone make; so the regularization means the same in every block, and what it means in AdaRound.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.models.activations import FakeQuantizer, quantized_activations
from kdq.models.codes import QuantizedWeight
from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Block, Rounding
from kdq.quantize.solver.soft_rounding import SoftRounding
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, NonNegative, PositiveInt

AT_ONCE = 64  # images of a pass without a descent


class Parameters(Quantizing):
    """BRECQ: the weights of a residual block are rounded down or up together, as a descent on its output's error finds.

    The blocks are those of the package's networks, with the stem and the classifier as further ones; in other networks
    each layer is a block.
    """

    refuses: ClassVar = {"order": "blocks are learned as they are executed"}
    # The codes of a layer alone are the nearest ones.
    learning: ClassVar = ("iterations", "batch_size", "learning_rate", "regularization", "fisher")
    after_measurement: ClassVar = (*Quantizing.after_measurement, *learning)

    iterations: Annotated[PositiveInt, Field(description="steps of a block's descent")] = 1000
    batch_size: Annotated[PositiveInt, Field(description="images per step")] = 32
    learning_rate: Annotated[
        float, Field(ge=1e-6, le=10, description="Adam's, for the variables behind the rounding")
    ] = 0.03
    regularization: Annotated[
        NonNegative,
        Field(
            description="weight of the pull to the two codes next to a weight, beside the error in squared steps, each "
            "of mean curvature 1"
        ),
    ] = 1.0
    fisher: Annotated[
        bool,
        Field(
            description="weigh each output's squared error by the squared gradient of the loss there; only in blocks "
            "of the package's networks"
        ),
    ] = True


class BRECQ(Rounding):
    """Nearest codes, of which the scale is chosen, and then :func:`descend` for each block."""

    learns_blocks = True

    def __init__(self, keys, seed=0):
        super().__init__(keys, seed)
        self.generator = torch.Generator().manual_seed(seed)

    def learned(self, block: Block) -> dict[str, Tensor]:
        importance = None
        if self.keys.fisher and block.rest:
            importance = fisher(block.rest, block.outputs, self.generator)
        with quantized_activations(block.model, block.points, kind=StraightThrough):
            return descend(block, importance, self.keys, self.generator)


class StraightThrough(FakeQuantizer):
    """A quantized activation whose gradient is that of the clipped value."""

    def forward(self, x: Tensor) -> Tensor:
        low = -self.zero_point * self.scale
        clipped = x.clamp(low, low + (2**self.bits - 1) * self.scale)
        return clipped + (super().forward(x) - clipped).detach()


class Weight:
    """A layer's weight while it is learned: ``rounding`` decides between ``below`` and the code above."""

    def __init__(self, layer: nn.Module, quantized: QuantizedWeight):
        shape = -1, *[1] * (layer.weight.dim() - 1)
        self.layer, self.nearest = layer, quantized.codes
        self.step = quantized.step.to(layer.weight.device).view(shape)
        in_steps = layer.weight.detach().double() / self.step
        below = in_steps.floor().clamp(quantized.low, quantized.high)
        free = (in_steps > below) & (below < quantized.high)
        self.below, self.remainder = below.float(), (in_steps - below).float()
        self.rounding = SoftRounding(self.remainder, free)

    def decoded(self, up: Tensor) -> Tensor:
        """Return the weight with codes ``below + up``."""
        return (self.below + up) * self.step

    def learned(self) -> Tensor:
        """Return the codes that the rounding decides for, int16."""
        return (self.below + self.rounding.decided()).to(torch.int16).cpu()


def fisher(rest: Callable[[Tensor], Tensor], outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Return the squared gradients of a loss with respect to ``outputs`` (M, ...), in their shape, of mean 1.

    ``rest`` returns the logits (M, classes) of outputs. The loss is the cross entropy of labels that are drawn from the
    predictions: the mean over draws is the diagonal of the Fisher information.
    """
    squares = []
    for part in outputs.split(AT_ONCE):
        with torch.enable_grad():
            leaf = part.detach().clone().requires_grad_()
            log_probabilities = rest(leaf.clone()).log_softmax(1)  # a copy: an activation in place may come
            labels = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=generator)
            loss = -log_probabilities.gather(1, labels.to(part.device)).sum()
        squares.append(torch.autograd.grad(loss, leaf)[0].square_())
    squares = torch.cat(squares)
    mean = float(squares.mean(dtype=torch.float64))
    return squares / mean if mean > 0 else torch.ones_like(squares)


@contextlib.contextmanager
def computing_with(weights: list[Weight], values: list[Tensor]) -> Iterator[None]:
    """In the block the weights' layers compute with ``values``, and gradients reach these."""

    def call(layer, value, input):
        if isinstance(layer, nn.Linear):
            return F.linear(input, value, layer.bias)
        return layer._conv_forward(input, value, layer.bias)

    before = [vars(weight.layer).get("forward") for weight in weights]
    try:
        for weight, value in zip(weights, values, strict=True):
            weight.layer.forward = functools.partial(call, weight.layer, value)
        yield
    finally:
        for weight, forward in zip(weights, before, strict=True):
            vars(weight.layer).pop("forward")
            if forward is not None:
                weight.layer.forward = forward


def block_error(block: Block, importance: Tensor | None, taken) -> Tensor:
    """Return sum F (z - z~)^2 per image over the images ``taken``, with the block as it computes now."""
    squares = (block.run(block.inputs[taken]) - block.outputs[taken]).square()
    return (squares if importance is None else squares * importance[taken]).sum() / len(squares)


@torch.no_grad()
def descend(block: Block, importance: Tensor | None, keys: Parameters, generator) -> dict[str, Tensor]:
    """Return the codes of a block's layers, int16 by name; those it has if the learned ones have no smaller error.

    ``importance`` F has the shape of the block's outputs, None is 1 everywhere.
    """
    weights = [Weight(layer, block.codes[name]) for name, layer in block.layers.items()]
    before = [block.codes[name].decode().to(layer.weight) for name, layer in block.layers.items()]
    error = whole_error(block, importance, weights, before)
    unit = squared_steps_per_error(block, importance, weights, before)
    for iteration in range(keys.iterations):
        taken = torch.randint(len(block.inputs), (keys.batch_size,), generator=generator)
        ups = [weight.rounding.up() for weight in weights]
        for weight, up, slope in zip(weights, ups, slopes(block, importance, weights, ups, taken), strict=True):
            rates = keys.learning_rate, keys.regularization
            weight.rounding.descend(up, slope.mul_(unit), iteration, keys.iterations, *rates)
    learned = [weight.learned() for weight in weights]
    after = [codes.to(weight.step) * weight.step for codes, weight in zip(learned, weights, strict=True)]
    if whole_error(block, importance, weights, after) >= error:
        learned = [weight.nearest for weight in weights]
    return dict(zip(block.layers, learned, strict=True))


def slopes(block: Block, importance, weights: list[Weight], ups: list[Tensor], taken: Tensor) -> list[Tensor]:
    """Return the slope of :func:`block_error` with respect to each weight's h = ``ups``."""
    with torch.enable_grad():
        values = [weight.decoded(up).requires_grad_() for weight, up in zip(weights, ups, strict=True)]
        with computing_with(weights, values):
            error = block_error(block, importance, taken)
    gradients = torch.autograd.grad(error, values)
    return [gradient * weight.step for gradient, weight in zip(gradients, weights, strict=True)]


def squared_steps_per_error(block: Block, importance, weights: list[Weight], values: list[Tensor]) -> float:
    """Return the squared distance of ``values`` from the float weights, in steps, by the error that it alone makes."""
    distance = sum(
        float(((weight.layer.weight - value) / weight.step).square().sum())
        for weight, value in zip(weights, values, strict=True)
    )
    with computing_with(weights, [weight.layer.weight for weight in weights]):
        outputs = torch.cat([block.run(part) for part in block.inputs.split(AT_ONCE)])
    error = whole_error(replace(block, outputs=outputs), importance, weights, values)
    return distance / error if error > 0 else 1.0


def whole_error(block: Block, importance, weights: list[Weight], values: list[Tensor]) -> float:
    """Return :func:`block_error` over all images, with these values of the weights."""
    with computing_with(weights, values):
        parts = torch.arange(len(block.inputs)).split(AT_ONCE)
        return sum(float(block_error(block, importance, part)) * len(part) for part in parts) / len(block.inputs)
