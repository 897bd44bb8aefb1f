"""Qronos: GPTQ that first corrects for the change of the inputs in the quantized network.

Zhang, Zhang, Colbert, Saab: Qronos: correcting the past by shaping the future in post-training quantization (2025,
arXiv:2505.11695). Its target is X~ q ~ X w. Input by input, the best level for q_t is taken with all later weights as
they are, then all later weights are replaced by those that make the error smallest:

    q_t   = argmin_q ||X w - sum_{j < t} q_j X~_j - q X~_t - X~_{>t} v_{>t}||,    v = w at first
    v_{>t} = argmin_v ||X w - sum_{j <= t} q_j X~_j - X~_{>t} v||

After the first input v is such a minimum already, and what remains is GPTQ with v for w (theorem of the paper). With
G = X~'X, H = X~'X~ = R R', R upper, all of it is forward substitution with rounding, as v_{>1} = H_{>1,>1}^-1 (G w -
H_{.1} q_1)_{>1} comes out of it by itself:

    L = R',   r_t = (R^-1 G w)_t for t > 1,   r_1 = R_11 (G w - H w + H_11 w_1)_1 / H_11

For X = X~ this is GPTQ.
"""

import torch

from kdq.quantize.keys import LookingAhead
from kdq.quantize.quantizer import Quantizer
from kdq.quantize.solver.hessian import input_order, reordered, ridge, upper_factor
from kdq.quantize.solver.substitution import Layout, Nearest, substitute


class Parameters(LookingAhead):
    """Qronos: GPTQ towards the outputs of the float network, whatever the earlier layers have changed."""


def qronos(weight, cross, gram, step, low, high, damping=0.01, order="natural", block=32, pruned=None) -> torch.Tensor:
    """Return integer codes (int16) of Qronos; arguments and result as for :func:`kdq.quantize.methods.gptq.gptq`.

    An input that is always zero in the quantized network gets code 0.
    """
    layout = Layout(weight, step)
    weight, cross, gram = layout.matrices(weight, cross, gram)
    order, damp = input_order(gram, order), ridge(gram, damping)
    alive = gram.diagonal(dim1=-2, dim2=-1) > 0
    # The damped G w; but a dead input, whose row of G is zero, is not kept at its weight: it gets code 0.
    wanted = cross @ weight.mT + (damp * alive)[..., None] * weight.mT
    weight, wanted = (columns.take_along_dim(order[..., None], 1) for columns in (weight.mT, wanted))
    hessian = reordered(gram + damp.diag_embed(), order)
    factor = upper_factor(hessian)
    target = torch.linalg.solve_triangular(factor, wanted, upper=True)
    first = wanted[:, :1] - hessian[:, :1, 1:] @ weight[:, 1:]
    target[:, :1] = first * factor[:, :1, :1] / hessian[:, :1, :1]
    rounding, mask = Nearest(*layout.bounds(low, high)), layout.mask(pruned, order)
    codes, _ = substitute(target, factor.mT, layout, rounding, block=block, pruned=mask)
    return layout.codes(codes.take_along_dim(order.argsort()[:, :, None, None], 1))


class Qronos(Quantizer):
    """:func:`qronos` as a stage."""

    sees_pruned = True

    def codes(self, weight, cross, gram, step, low, high, pruned=None):
        keys = self.keys
        return qronos(weight, cross, gram, step, low, high, keys.damping, keys.input_order, pruned=pruned)
