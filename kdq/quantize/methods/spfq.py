"""SPFQ: path-following quantization with stochastic rounding, after an alignment of the data.

Zhang, Saab: SPFQ: a stochastic algorithm and its error analysis for neural network quantization (2023,
arXiv:2309.10975). First find a weight w~ that does on the quantized network's inputs what w does on the float
network's, X~ w~ ~ X w, in sweeps over the columns; then w~ is quantized against X~ alone:

    u += w~_t X~_t;   q_t = <X~_t, u> / ||X~_t||^2 rounded at random;   u -= q_t X~_t

z = q_t / step goes up with the probability of its fractional part, so that q_t is right on average unless it is
clipped. That is floor(z + U) with U uniform in [0, 1): rounding to nearest with a dither U - 1/2.

The first sweep is the path of GPFQ without rounding, so that after it the whole is GPFQ with stochastic rounding. Every
further one is a sweep of Gauss and Seidel on X~'X~ w~ = X~'X w, the equations of least squares.
"""

import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer
from kdq.quantize.solver.substitution import Layout, Nearest, reciprocal_diagonal, substitute, triangle_product
from kdq.recipe.vocabulary import Annotated, Field


class Parameters(Quantizing):
    """SPFQ: as GPFQ, but rounded at random so that the errors are zero on average."""

    alignment: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="sweeps that fit the weights to the quantized network's inputs first (the paper's order r); "
            "1 is GPFQ with stochastic rounding, 0 leaves the weights as they are",
        ),
    ] = 1


def spfq(weight, cross, gram, step, low, high, generator, alignment=1, block=32, pruned=None) -> torch.Tensor:
    """Return integer codes (int16) of SPFQ after ``alignment`` sweeps.

    ``generator`` (of the CPU) gives a number for every weight, row after row, so that the rows of a layer may come in
    any blocks, and the same one for all alphabets. The other arguments and the result as for
    :func:`kdq.quantize.methods.gpfq.gpfq`. An input that is always zero gets code 0.
    """
    layout = Layout(weight, step)
    weight, cross, gram = layout.matrices(weight, cross, gram)
    groups, rows, inputs = weight.shape
    uniform = torch.rand(rows, groups, inputs, dtype=torch.float64, generator=generator).to(weight.device)
    mask = layout.mask(pruned)
    target = triangle_product(gram, aligned(weight, cross, gram, alignment, mask).mT)
    rounding, dither = Nearest(*layout.bounds(low, high)), uniform.permute(1, 2, 0) - 0.5
    return layout.codes(substitute(target, gram, layout, rounding, dither, block, mask)[0])


def aligned(weight, cross, gram, sweeps, mask=None) -> torch.Tensor:
    """Return the weight w~ (g, N, d) after ``sweeps`` sweeps; weight (g, N, d), cross and gram (g, d, d), all float64.

    Dead inputs have weight 0 after the first sweep, pruned ones, ``mask`` (g, d, 1, N), always. The published code
    takes the first group's columns for all groups.
    """
    if sweeps == 0:
        return weight
    right = triangle_product(cross, weight.mT)
    solution = _solved(gram, right, mask)
    for _ in range(sweeps - 1):
        right = cross @ weight.mT - triangle_product(gram, solution, upper=True)
        solution = _solved(gram, right, mask)
    return solution.mT


def _solved(gram, right, mask) -> torch.Tensor:
    """Return v (g, d, N) with tril(gram) v = right (g, d, N), and 0 where a weight is pruned and for dead inputs."""
    if mask is not None:
        units = Layout(right.mT, 1.0)
        return substitute(right, gram, units, lambda z_and_half, level: level.copy_(z_and_half - 0.5), pruned=mask)[0][
            :, :, 0
        ]
    triangle = gram.tril()
    # A dead input's row is zero: divided by 1 it gives weight 0.
    triangle.diagonal(dim1=-2, dim2=-1).add_(reciprocal_diagonal(gram) == 0)
    return torch.linalg.solve_triangular(triangle, right, upper=False)


class SPFQ(Quantizer):
    """:func:`spfq` as a stage: numbers drawn from the seed, different ones for every layer."""

    def __init__(self, keys, seed=0):
        super().__init__(keys, seed)
        self.generator = torch.Generator().manual_seed(seed)

    sees_pruned = True

    def codes(self, weight, cross, gram, step, low, high, pruned=None):
        return spfq(weight, cross, gram, step, low, high, self.generator, self.keys.alignment, pruned=pruned)
