"""AdaRound: learn by gradient descent on the layer's error whether to round each weight down or up.

Nagel, Amjad, van Baalen, Louizos, Blankevoort: Up or down? Adaptive rounding for post-training quantization (2020,
arXiv:2004.10568). The rounding is soft, :mod:`kdq.quantize.solver.soft_rounding`, and descends on the squared error of
the layer's outputs. With e = w - q and H = X~'X~ it is e'H e + 2 e'(X~'X - H) w up to what no rounding changes. The
Gram matrices stand for all inputs at once, so that the gradient is exact and fewer steps do than with batches of
inputs.

A ReLU behind the layer, and a BatchNorm between, enter the error as in the paper's asymmetric reconstruction:
||f(X w) - f(X~ q)||^2, f clamping to the outputs that the ReLU passes on. That error takes the inputs themselves, in
batches.
"""

import itertools

import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer
from kdq.quantize.solver.soft_rounding import SoftRounding
from kdq.quantize.solver.substitution import Layout
from kdq.recipe.vocabulary import Annotated, Field, Literal, NonNegative, PositiveInt

BATCH = 4096  # patches of a step of the descent behind a ReLU: those of 1,024 cost half a point of accuracy at 2 bits


class Parameters(Quantizing):
    """AdaRound: every weight is rounded down or up, as a descent on the layer's error finds best."""

    reconstruct: Annotated[
        Literal["activation", "output"],
        Field(
            description="error that the descent lessens: behind the ReLU, for layers with one right behind them or "
            "their BatchNorm, or of the layer's outputs for all"
        ),
    ] = "activation"
    iterations: Annotated[PositiveInt, Field(description="steps of the descent")] = 1000
    learning_rate: Annotated[
        float, Field(ge=1e-6, le=10, description="Adam's, for the variables behind the rounding")
    ] = 0.1
    regularization: Annotated[
        NonNegative,
        Field(
            description="weight of the pull to the two codes next to a weight, beside the error in squared steps with "
            "inputs of mean square 1"
        ),
    ] = 1.0


def adaround(
    weight, cross, gram, step, low, high, iterations=1000, learning_rate=0.1, regularization=1.0
) -> torch.Tensor:
    """Return integer codes (int16): one of the two next to each weight, or the last one if the weight is beyond it.

    Arguments and result as for :func:`kdq.quantize.methods.gpfq.gpfq`; the descent is in float32. A row whose error is
    not smaller than that of the nearest codes keeps the nearest codes.
    """
    layout = Layout(weight, step)
    weight, cross, gram = layout.matrices(weight, cross, gram)
    low, high = layout.bounds(low, high)
    in_steps = (weight.mT[:, :, None] / layout.step).flatten(2)
    drift = (((cross - gram) @ weight.mT)[:, :, None] / layout.step).flatten(2)
    # Scaled so that the regularization means the same in every layer; dead inputs alone have nothing to scale.
    energy = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    gram, drift = ((matrix / energy.where(energy > 0, 1.0)).float() for matrix in (gram, drift))
    goal = in_steps.float()

    def slope(codes):
        return (gram @ (goal - codes)).add_(drift).mul_(-2)

    def error(codes):
        difference = goal - codes
        return (difference * (gram @ difference + 2 * drift)).sum(1, keepdim=True)

    codes = _rounded(in_steps, low, high, slope, error, (iterations, learning_rate, regularization))
    return layout.codes(codes.unflatten(2, (-1, layout.rows)))


def adaround_before_relu(
    weight, rows, passed, step, low, high, iterations=1000, learning_rate=0.1, regularization=1.0, seed=0
) -> torch.Tensor:
    """Return integer codes (int16) as :func:`adaround` does, by the error of outputs clamped to ``passed``.

    ``rows`` of X and X~, (g, patches, d) in float32, from which ``seed`` draws batches; ``passed`` (2, g, N).
    ``weight`` (g, N, d), ``step`` (K, g, N), the result (K, g, N, d).
    """
    layout = Layout(weight, step)
    low, high = layout.bounds(low, high)
    in_steps = (weight.double().mT[:, :, None] / layout.step).flatten(2)
    order = torch.randperm(rows[0].shape[1], generator=torch.Generator().manual_seed(seed)).to(weight.device)
    analog, quantized = (matrix[:, order] for matrix in rows)
    bounds = [(layout.spread(bound) / layout.step).flatten(2).float() for bound in passed]
    targets = (analog @ in_steps.float()).clamp_(*bounds)
    energy = quantized.square().mean((1, 2))[:, None, None]
    scale, batches = torch.where(energy > 0, 1 / energy, 1.0), itertools.cycle(range(0, len(order), BATCH))

    def slope(codes):
        start = next(batches)
        here, target = (matrix[:, start : start + BATCH] for matrix in (quantized, targets))
        outputs = here @ codes
        difference = target - outputs.clamp(*bounds)
        difference *= (outputs > bounds[0]) & (outputs < bounds[1])
        return (here.mT @ difference).mul_(scale * (-2 / here.shape[1]))

    def error(codes):
        pairs = zip(quantized.split(BATCH, 1), targets.split(BATCH, 1), strict=True)
        return sum((target - (x @ codes).clamp_(*bounds)).square().sum(1, keepdim=True) for x, target in pairs)

    codes = _rounded(in_steps, low, high, slope, error, (iterations, learning_rate, regularization))
    return layout.codes(codes.unflatten(2, (-1, layout.rows)))


def _rounded(in_steps, low, high, slope, error, descent) -> torch.Tensor:
    """Return the codes (g, d, K N) of a descent, or the nearest ones for each output whose ``error`` those lessen.

    ``slope(codes)`` is the gradient of the error by the codes, whole numbers or between, ``error(codes)`` (g, 1, K N).
    """
    nearest, below = ((in_steps + half).floor().clamp(low, high).float() for half in (0.5, 0.0))
    free = (in_steps > below) & (below < high)
    rounding, (iterations, *rates) = SoftRounding((in_steps - below).float(), free), descent
    for iteration in range(iterations):
        up = rounding.up()
        rounding.descend(up, slope(below + up), iteration, iterations, *rates)
    codes = below + rounding.decided()
    return torch.where(error(codes) < error(nearest), codes, nearest)


class AdaRound(Quantizer):
    """:func:`adaround`, or :func:`adaround_before_relu` for layers with a ReLU behind, as a stage."""

    descends = True

    @property
    def sees_relu(self):
        return self.keys.reconstruct == "activation"

    def codes(self, weight, cross, gram, step, low, high):
        return adaround(weight, cross, gram, step, low, high, *self._descent)

    def codes_before_relu(self, weight, rows, passed, step, low, high):
        return adaround_before_relu(weight, rows, passed, step, low, high, *self._descent, self.seed)

    @property
    def _descent(self):
        return self.keys.iterations, self.keys.learning_rate, self.keys.regularization
