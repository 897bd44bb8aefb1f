"""Forward substitution with rounding: the loop of all quantizers that go from input to input.

Such a quantizer gives a lower triangle L and a target r per layer, and its integer codes are, one after the other,

    z_t = (r_t / step - sum_{j < t} L_tj c_j) / L_tt,    c_t = z_t rounded to a code

so that every code compensates the errors of the codes before it. L is X~'X~ if the codes follow the path of the
outputs (GPFQ and variants), or the factor R' of X~'X~ = R R' if each step also accounts for what all later weights can
still compensate (GPTQ, Qronos). The sums over codes are done by halves, so that nearly all of the work is matrix
products; the rest goes column by column, compiled for large layers. A pruned weight's code is 0, and what follows sees
that code as any other. With L = X~'X~ this is the recursion over the weights that are left; R' still counts on later
weights that are pruned too, as in SparseGPT, which costs a few per cent of the output error.
"""

from functools import partial
from math import nan

import torch

from kdq.quantize.solver import compiled_columns as compiled


class Layout:
    """Memory layout of the substitution, (g, d, K, N): the codes of one input are contiguous.

    ``weight`` (..., N, d) and ``step``, a number, (..., N), or (K, ..., N) for K alphabets, as passed to a quantizer;
    the leading dimensions, such as a convolution's groups, become one, g.
    """

    def __init__(self, weight, step):
        self.batch, (self.rows, self.inputs) = weight.shape[:-2], weight.shape[-2:]
        step = torch.as_tensor(step, dtype=torch.float64, device=weight.device)
        # Not torch.broadcast_shapes, which imports a computer algebra system: seconds for the first caller.
        self._step = torch.broadcast_tensors(step, step.new_empty(()).expand(*self.batch, self.rows))[0]
        self.step = self.spread(self._step)

    def matrices(self, *matrices):
        """Return each matrix (..., n, d) as (g, n, d) in float64."""
        return [matrix.double().reshape(-1, *matrix.shape[-2:]) for matrix in matrices]

    def spread(self, value):
        """Return a number, or a tensor that broadcasts like the steps, as (g, 1, K, N)."""
        value = torch.as_tensor(value, dtype=torch.float64, device=self._step.device).broadcast_to(self._step.shape)
        return value.reshape(-1, self.batch.numel(), self.rows).movedim(1, 0)[:, None]

    def bounds(self, *values):
        """Return numbers unchanged, and tensors that broadcast like the steps as (g, 1, K N): a bound per code."""
        return [value if isinstance(value, int) else self.spread(value).flatten(2) for value in values]

    def mask(self, pruned, order=None):
        """Return which weights are pruned, bool (..., N, d) or None, as (g, d, 1, N), inputs in ``order`` (g, d)."""
        if pruned is None:
            return None
        mask = pruned.reshape(-1, self.rows, self.inputs).mT
        return (mask if order is None else mask.take_along_dim(order[:, :, None], 1))[:, :, None]

    def codes(self, levels):
        """Return whole numbers (g, d, K, N) as int16 codes (..., N, d), or (K, ..., N, d)."""
        alphabets = self._step.shape[: self._step.dim() - len(self.batch) - 1]
        codes = levels.to(torch.int16).permute(2, 0, 3, 1)
        return codes.reshape(*alphabets, *self.batch, self.rows, self.inputs)

    def sums(self, values):
        """Return numbers (g, 1, K, N), one per step, in the shape of the steps."""
        return values.movedim(2, 0).reshape(self._step.shape)


class Nearest:
    """The rounding c = clip(floor(z + 1/2), low, high); bounds are numbers, or (g, 1, K N)."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __call__(self, z_and_half, code) -> None:
        torch.floor(z_and_half, out=code).clamp_(self.low, self.high)


def substitute(target, triangle, layout, rounding, dither=None, block=32, pruned=None):
    """Return (codes, z + 1/2), both float64 (g, d, K, N), of the formula above.

    ``target`` r (g, d, N), ``triangle`` L (g, d, d), of which only the lower triangle is read. An input with L_tt = 0
    has z = 0. ``rounding(z_and_half, code)`` gets z + 1/2 of an input or more, (g, ., K N), and writes their codes, or
    other levels in steps. ``dither`` (g, d, N) is added to z before it is rounded. ``block`` inputs are solved one by
    one between matrix products; it affects speed only. ``pruned`` is a :meth:`Layout.mask`, or None: the codes
    there are 0, and the z NaN.
    """
    z = target[:, :, None] / layout.step
    if pruned is not None:
        z = z.masked_fill(pruned, torch.nan)
    if dither is not None:
        z += (dither * triangle.diagonal(dim1=-2, dim2=-1)[..., None])[:, :, None]
    z = z.flatten(2).contiguous()
    codes = torch.empty_like(z)
    solve(z, codes, triangle, rounding, layout.rows * layout.inputs, block, pruned is not None)
    return tuple(numbers.unflatten(2, (-1, layout.rows)) for numbers in (codes, z))


def reciprocal_diagonal(triangle):
    """Return 1 / L_tt, and 0 for a dead input, whose z is then exactly 0 at every step."""
    diagonal = triangle.diagonal(dim1=-2, dim2=-1)
    return torch.where(diagonal > 0, 1 / diagonal, 0.0)


def triangle_product(matrix, right, upper=False, block=256):
    """Return tril(matrix), or triu(matrix, 1), @ right, by rows of blocks: half the work, no (d, d) copy."""
    product = torch.empty_like(right, memory_format=torch.contiguous_format)
    for start in range(0, matrix.shape[-1], block):
        stop = min(start + block, matrix.shape[-1])
        rows = matrix[:, start:stop]
        corner, rest = rows[..., start:stop], slice(stop, None) if upper else slice(0, start)
        product[:, start:stop] = (corner.triu(1) if upper else corner.tril()) @ right[:, start:stop]
        product[:, start:stop].baddbmm_(rows[..., rest], right[:, rest])
    return product


def solve(z, codes, triangle, rounding, weights, block=32, pruned=False) -> None:
    """Write ``codes`` (g, d, n), contiguous; ``z`` has L_tt z_t without the codes before t, and becomes z_t + 1/2.

    If some weights are ``pruned``, a z that is NaN has code 0.

    ``weights``: number of weights per group. The columns of a large layer are compiled if codes are rounded to the
    nearest. Both ways give the same codes except for ties within the last digit; so the choice depends on the layer
    alone, not on the number of alphabets.
    """
    reciprocal = reciprocal_diagonal(triangle)
    columns = _one_by_one
    if isinstance(rounding, Nearest) and compiled.pays(z.device, weights):
        bounds = (torch.as_tensor(bound).to(z) for bound in (rounding.low, rounding.high))
        columns, rounding = compiled.columns, [bound.expand(len(z), 1, z.shape[2]).contiguous() for bound in bounds]
    columns = partial(columns, of_nan=0.0 if pruned else nan)
    _halves(columns, z, codes, triangle, reciprocal, rounding, 0, z.shape[1], block)


def _halves(columns, z, codes, triangle, reciprocal, rounding, start, stop, block):
    """Write the codes of inputs ``start`` to ``stop``: solve the first half, correct the second by it, solve that.

    codes[start:middle]  <- solve
    z[middle:stop]       -= triangle[middle:stop, start:middle] @ codes[start:middle]
    codes[middle:stop]   <- solve
    """
    if stop - start <= block:
        columns(z, codes, triangle[:, start:stop, start:stop], reciprocal, rounding, start)
        return
    middle = (start + stop) // 2
    _halves(columns, z, codes, triangle, reciprocal, rounding, start, middle, block)
    z[:, middle:stop].baddbmm_(triangle[:, middle:stop, start:middle], codes[:, start:middle], alpha=-1)
    _halves(columns, z, codes, triangle, reciprocal, rounding, middle, stop, block)


def _one_by_one(z, codes, lower, reciprocal, rounding, start, of_nan):
    stop = start + lower.shape[-1]
    # From here on the whole block is z + 1/2, which saves two operations per column.
    scale = reciprocal[:, start:stop, None]
    panel, block_codes = z[:, start:stop].mul_(scale).add_(0.5), codes[:, start:stop]
    # Codes to come count as 0: slicing them off for every column takes longer than multiplying them.
    block_codes.zero_()
    for here, code, row in zip(*(rows.split(1, 1) for rows in (panel, block_codes, lower * scale)), strict=True):
        here.baddbmm_(row, block_codes, alpha=-1)
        rounding(here, code)
        if of_nan == 0:
            code.nan_to_num_(0.0)
