"""GPTQ: optimal brain quantization in a fixed order of the inputs.

Frantar, Ashkboos, Hoefler, Alistarh: GPTQ: accurate post-training quantization for generative pre-trained transformers
(2023, arXiv:2210.17323). Inputs t = 1, 2, ... are quantized one by one, and each time all later weights move to where
they compensate the error best, with H = X~'X~ (damped) of the inputs from t on:

    q_t = the level nearest to w_t;    w_{>t} -= (w_t - q_t) / [H^-1]_tt [H^-1]_{t,>t}

That is forward substitution with rounding. With H = R R', R upper, each w_t is by its turn

    z_t = w_t + sum_{j < t} R_jt (w_j - q_j) / R_tt

(Babai's nearest plane: Chen et al. 2025, arXiv:2507.18553), so that all updates are matrix products with R, and no
inverse is needed. GPTQ uses the quantized network's inputs alone: its target is X~ q ~ X~ w, that of GPFQ X~ q ~ X w.
"""

import torch

from kdq.quantize.keys import LookingAhead
from kdq.quantize.quantizer import Quantizer
from kdq.quantize.solver.hessian import input_order, reordered, ridge, upper_factor
from kdq.quantize.solver.substitution import Layout, Nearest, substitute, triangle_product


class Parameters(LookingAhead):
    """GPTQ: every weight's error is spread over all later weights, as the inputs' correlations allow."""


def gptq(weight, cross, gram, step, low, high, damping=0.01, order="natural", block=32, pruned=None) -> torch.Tensor:
    """Return integer codes (int16) of GPTQ; ``cross`` is ignored.

    ``damping`` is a share of the mean of ``gram``'s diagonal, ``order`` ``natural`` or ``activation``; other
    arguments and the result as for :func:`kdq.quantize.methods.gpfq.gpfq`. An input that is always zero gets code 0.
    A pruned weight's error is spread over all later ones, as in SparseGPT (Frantar and Alistarh, 2023). Raises
    UserError if ``gram`` is singular in spite of the damping.

    >>> weight = torch.tensor([[0.6, 0.3]])
    >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])     # two unit columns at 60 degrees
    >>> gptq(weight, gram, gram, step=1.0, low=-2, high=1, damping=1e-9)
    tensor([[1, 0]], dtype=torch.int16)

    0.6 becomes 1, an error of 0.4, half of which the second column can take back: 0.3 - 0.5 * 0.4 = 0.1 becomes 0.
    """
    layout = Layout(weight, step)
    weight, gram = layout.matrices(weight, gram)
    order = input_order(gram, order)
    alive = gram.diagonal(dim1=-2, dim2=-1) > 0
    triangle = upper_factor(reordered(gram + ridge(gram, damping).diag_embed(), order)).mT
    target = triangle_product(triangle, (weight * alive[:, None]).mT.take_along_dim(order[:, :, None], 1))
    rounding, mask = Nearest(*layout.bounds(low, high)), layout.mask(pruned, order)
    codes, _ = substitute(target, triangle, layout, rounding, block=block, pruned=mask)
    return layout.codes(codes.take_along_dim(order.argsort()[:, :, None, None], 1))


class GPTQ(Quantizer):
    """:func:`gptq` as a stage."""

    sees_pruned = True

    def codes(self, weight, cross, gram, step, low, high, pruned=None):
        keys = self.keys
        return gptq(weight, cross, gram, step, low, high, keys.damping, keys.input_order, pruned=pruned)
