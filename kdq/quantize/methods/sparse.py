"""Sparse GPFQ: path-following quantization that makes small weights zero.

Zhang, Zhou, Saab: Post-training quantization for neural networks with provable guarantees (2023), on sparse
quantization. The path is that of GPFQ; only the rounding of z, the best next weight in steps, differs. With a
threshold t in steps:

    soft    c = round(sign(z) max(|z| - t, 0)), an L1 penalty: larger weights shrink too, and later ones compensate
    hard    c = 0 if |z| <= t, else round(z), an L0 penalty

The published threshold is absolute, the same in layers of large and of small weights; the stage's is a share of the
root mean square of an output's weights. The published alphabet of the hard rounding is 0 and +-(threshold + k step),
which :func:`sparse` offers as ``first``. The stage leaves it alone: but for thresholds of whole steps it is not
equispaced, and a model file holds codes of one step.
"""

import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer
from kdq.quantize.solver.substitution import Layout, substitute, triangle_product
from kdq.recipe.vocabulary import Annotated, Field, Literal


class Parameters(Quantizing):
    """Sparse GPFQ: small weights become zero, and later weights compensate."""

    penalty: Annotated[
        Literal["hard", "soft"],
        Field(description="`hard` makes weights within the threshold zero; `soft` draws all weights to zero by it"),
    ] = "hard"
    threshold: Annotated[
        float, Field(ge=0, le=100, description="as a share of the root mean square of an output's weights")
    ] = 0.5


def sparse(
    weight,
    cross,
    gram,
    step,
    low,
    high,
    threshold=0.5,
    penalty="hard",
    relative=True,
    first=None,
    block=32,
    pruned=None,
) -> torch.Tensor:
    """Return integer codes (int16) of GPFQ with ``hard`` or ``soft`` rounding, the ``penalty``.

    ``threshold``: a share of the root mean square of every row's weights that are not pruned, or not ``relative``, in
    their units. ``first``: of a hard rounding, where the levels of the codes 1 and -1 lie, in the units of the weight;
    the others follow a step apart. None is the step. Other arguments and the result as for
    :func:`kdq.quantize.methods.gpfq.gpfq`.
    """
    layout = Layout(weight, step)
    if relative:
        counted = weight.shape[-1] if pruned is None else (~pruned).sum(-1).clamp(min=1)
        threshold = threshold * (weight.double().square().sum(-1) / counted).sqrt()
    weight, cross, gram = layout.matrices(weight, cross, gram)
    threshold = (layout.spread(threshold) / layout.step).flatten(2)
    # Distance of the levels other than 0 beyond a multiple of the step, in steps.
    offset = 0.0 if first is None else (layout.spread(first) / layout.step).flatten(2) - 1
    low, high = layout.bounds(low, high)
    rounding = soft(low, high, threshold) if penalty == "soft" else hard(low, high, threshold, offset)
    target = triangle_product(cross, weight.mT)
    levels, _ = substitute(target, gram, layout, rounding, block=block, pruned=layout.mask(pruned))
    levels = levels.flatten(2)
    codes = levels.sub_(levels.sign() * offset).round_()
    return layout.codes(codes.unflatten(2, (-1, layout.rows)))


def soft(low, high, threshold):
    """Soft thresholding, in steps."""

    def shrink(z_and_half, level):
        z = z_and_half - 0.5
        excess = z.abs().sub_(threshold).clamp_(min=0).mul_(z.sign())
        torch.floor(excess.add_(0.5), out=level).clamp_(low, high)

    return shrink


def hard(low, high, threshold, offset):
    """Hard thresholding, in steps: the levels are 0 and the codes, ``offset`` farther from 0."""

    def cut(z_and_half, level):
        z = z_and_half - 0.5
        code = (z_and_half - z.sign() * offset).floor_().clamp_(low, high)
        level.copy_(code.add_(code.sign() * offset)).masked_fill_(z.abs() <= threshold, 0)

    return cut


class Sparse(Quantizer):
    """:func:`sparse` as a stage."""

    sees_pruned = True

    def codes(self, weight, cross, gram, step, low, high, pruned=None):
        return sparse(weight, cross, gram, step, low, high, self.keys.threshold, self.keys.penalty, pruned=pruned)
