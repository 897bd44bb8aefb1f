"""GPFQ: greedy path-following quantization, exact, from Gram matrices.

Zhang, Zhou, Saab: Post-training quantization for neural networks with provable guarantees (2023). With rows w of the
weight, columns X_t of the float network's inputs and X~_t of the partly quantized network's, in the order t = 1, 2, ...

    u += w_t X_t;   q_t = the level nearest to <X~_t, u> / ||X~_t||^2;   u -= q_t X~_t

Writing u out turns the inputs into G = X~'X and H = X~'X~, and dividing by the step turns levels into integers c:

    z_t = (sum_{j <= t} G_tj w_j / step - sum_{j < t} H_tj c_j) / H_tt,    c_t = clip(floor(z_t + 1/2), low, high)

The first sum does not depend on c: one matrix product gives it for all t and all rows. The second is a triangular solve
with rounding, done by halves, so that nearly all of its work is matrix products as well.

With few rows or patches the Gram matrices are most of the work. Then u itself is kept, and only a block of columns at
a time is written out as above, on top of <X~_t, u> for the u before the block: :func:`gpfq_by_residuals`.
"""

import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer
from kdq.quantize.solver.substitution import Layout, Nearest, solve, substitute, triangle_product


class Parameters(Quantizing):
    """GPFQ: every weight compensates the error of the weights before it on the calibration images."""


def gpfq(weight, cross, gram, step, low, high, block=32, pruned=None) -> torch.Tensor:
    """Return integer codes (int16) of GPFQ, equal to those of the sequential loop over columns in float64.

    ``weight`` (N, d); ``cross`` = X~'X and ``gram`` = X~'X~, both (d, d); ``step`` a number, (N,), or (K, N) for K
    alphabets that share the first matrix product; ``low`` and ``high`` integers, or tensors that broadcast like
    ``step``. Returns (N, d), or (K, N, d). All tensors may carry the same leading dimensions, such as a convolution's
    groups: weight (g, N, d), cross and gram (g, d, d), step (g, N) or (K, g, N). An input that is always zero gets
    code 0. ``block`` inputs are solved one by one between matrix products; it affects speed only. ``pruned`` is bool
    of the weight's shape, or None: such weights get code 0, and the recursion goes over those that are left.

    >>> weight = torch.tensor([[0.6, 0.3]])
    >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])     # X = X~: two unit columns at 60 degrees
    >>> gpfq(weight, gram, gram, step=1.0, low=-2, high=1)
    tensor([[1, 0]], dtype=torch.int16)

    z_1 = 0.6 rounds to 1 and leaves u = -0.4 X_1; so z_2 = <X_2, u + 0.3 X_2> = -0.2 + 0.3 = 0.1 rounds to 0.
    In the formula of this file: z_2 = (0.5 * 0.6 + 1 * 0.3) - 0.5 * 1 = 0.1.
    """
    return gpfq_with_errors(weight, cross, gram, step, low, high, block, pruned, errors=False)[0]


def gpfq_with_errors(weight, cross, gram, step, low, high, block=32, pruned=None, errors=True):
    """Return the codes of :func:`gpfq` and ||X w - X~ q||^2 - ||X w||^2, shaped as the steps; None without ``errors``.

    The difference is q'Hq - 2 q'Gw. The z of the solve have the sums of H_tj c_j over j < t in them, and these make up
    q'Hq: with the upper triangle of G beside the lower one, no product with codes is needed.
    """
    layout = Layout(weight, step)
    weight, cross, gram = layout.matrices(weight, cross, gram)
    target = triangle_product(cross, weight.mT)
    rounding, mask = Nearest(*layout.bounds(low, high)), layout.mask(pruned)
    codes, z = substitute(target, gram, layout, rounding, block=block, pruned=mask)
    integers = layout.codes(codes)
    if not errors:
        return integers, None
    # Per input c (H_tt s (c - 2 z) - 2 (the upper triangle's sum)), in place of z, which is z + 1/2 here.
    change = z.mul_(-2).add_(1).add_(codes).mul_(gram.diagonal(dim1=-2, dim2=-1)[..., None, None]).mul_(layout.step)
    change.sub_(2 * triangle_product(cross, weight.mT, upper=True)[:, :, None]).mul_(codes).nan_to_num_(0.0)
    return integers, layout.sums(change.sum(1, keepdim=True) * layout.step)


def gpfq_by_residuals(weight, columns, step, low, high):
    """Return codes (K, g, N, d) equal to those of :func:`gpfq`, computed by residuals, squared errors and energies.

    ``weight`` (g, N, d); ``columns`` an iterable over the blocks of :func:`kdq.quantize.gram.calibration.columns`;
    ``step`` (K, g, N); ``low`` and ``high`` integers. Errors ||X w - X~ q||^2 are (K, g, N), energies ||X w||^2 (g, N),
    in the blocks' precision. Memory: K g N residuals of all patches in float64.
    """
    alphabets, groups, rows = step.shape
    weight, step = weight.double(), step.double().movedim(0, 1)[:, None]
    residual, outputs, codes, start = None, None, [], 0
    for columns_here in columns:
        block = columns_here.double()
        quantized, kinds = block[:, -1], block.flatten(1, 2)
        stop = start + block.shape[2]
        here = weight[:, :, start:stop].mT
        products = quantized @ kinds.mT
        cross, gram = products[..., : stop - start], products[..., start - stop :]
        target = (cross.tril() @ here)[:, :, None]
        if residual is None:
            residual = block.new_zeros(groups, alphabets * rows, block.shape[-1])
            outputs = columns_here.new_zeros(groups, rows, block.shape[-1])
        else:
            target = target + (quantized @ residual.mT).view(groups, -1, alphabets, rows)
        z = (target / step).contiguous().flatten(2)
        codes_here = torch.empty_like(z)
        solve(z, codes_here, gram, Nearest(low, high), weight[0].numel())
        # One product of both kinds of columns, X w - X~ q of the block, goes once through the largest tensor.
        change = z.new_zeros(groups, block.shape[1], stop - start, alphabets, rows)
        change[:, 0] = here[:, :, None]
        change[:, -1].addcmul_(codes_here.view(groups, -1, alphabets, rows), step, value=-1)
        residual.baddbmm_(change.flatten(3).flatten(1, 2).mT, kinds)
        outputs.baddbmm_(here.mT.to(outputs), columns_here[:, 0])
        codes.append(codes_here.to(torch.int16))
        start = stop
    codes = torch.cat(codes, 1).view(groups, start, alphabets, rows).permute(2, 0, 3, 1)
    errors = residual.norm(dim=-1).square().view(groups, alphabets, rows).movedim(1, 0)
    return codes, errors, outputs.norm(dim=-1).double().square()


class GPFQ(Quantizer):
    """:func:`gpfq` as a stage, from Gram matrices or from residuals, whichever takes less time."""

    from_residuals = True
    sees_pruned = True
    codes = staticmethod(gpfq)
    codes_with_errors = staticmethod(gpfq_with_errors)
    codes_from_residuals = staticmethod(gpfq_by_residuals)
