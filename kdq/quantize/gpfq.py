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

from kdq.quantize.keys import Quantizer


class Parameters(Quantizer):
    """GPFQ: every weight makes up for the error that the weights before it left on the calibration images."""


def gpfq(weight, cross, gram, step, low, high, block=32) -> torch.Tensor:
    """Integer codes (int16) of GPFQ, equal to those of the sequential loop over columns in float64.

    ``weight`` (N, d); ``cross`` = X~'X and ``gram`` = X~'X~, both (d, d); ``step`` a number, (N,), or (K, N) for K
    alphabets that share the first matrix product; ``low`` and ``high`` integers, or tensors that broadcast like
    ``step``. Returns (N, d), or (K, N, d). All tensors may carry the same leading dimensions, such as a convolution's
    groups: weight (g, N, d), cross and gram (g, d, d), step (g, N) or (K, g, N). An input that is always zero gets
    code 0. ``block`` inputs are solved one by one between matrix products; it changes the speed alone.

    >>> weight = torch.tensor([[0.6, 0.3]])
    >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])     # X = X~: two unit columns at 60 degrees
    >>> gpfq(weight, gram, gram, step=1.0, low=-2, high=1)
    tensor([[1, 0]], dtype=torch.int16)

    z_1 = 0.6 rounds to 1 and leaves u = -0.4 X_1; so z_2 = <X_2, u + 0.3 X_2> = -0.2 + 0.3 = 0.1 rounds to 0.
    In the formula of this file: z_2 = (0.5 * 0.6 + 1 * 0.3) - 0.5 * 1 = 0.1.
    """
    return gpfq_with_errors(weight, cross, gram, step, low, high, block, errors=False)[0]


def gpfq_with_errors(weight, cross, gram, step, low, high, block=32, errors=True):
    """The codes of :func:`gpfq` and ||X w - X~ q||^2 - ||X w||^2, of the shape of the steps; None without ``errors``.

    The difference is q'Hq - 2 q'Gw. The z of the solve have the sums of H_tj c_j over j < t in them, and these make up
    q'Hq: with the upper triangle of G beside the lower one, no product with codes is needed.
    """
    batch, (rows, inputs) = weight.shape[:-2], weight.shape[-2:]
    weight, cross, gram = (matrix.double().reshape(-1, *matrix.shape[-2:]) for matrix in (weight, cross, gram))
    step = torch.as_tensor(step, dtype=torch.float64, device=weight.device)
    # Not torch.broadcast_shapes, which imports a computer algebra system: seconds for the first caller.
    step = torch.broadcast_tensors(step, step.new_empty(()).expand(*batch, rows))[0]
    alphabets = step.shape[: step.dim() - len(batch) - 1]

    def by_group(value):
        """(K, g, N) to (g, 1, K, N)."""
        value = torch.as_tensor(value, dtype=torch.float64, device=weight.device).broadcast_to(step.shape)
        return value.reshape(-1, len(weight), rows).movedim(1, 0)[:, None]

    target = _triangle_product(cross, weight.mT)
    # Inputs before rows: one input's codes in all rows and alphabets are contiguous, a block of inputs is a matrix.
    z = (target[:, :, None] / by_group(step)).flatten(2)
    codes = torch.empty_like(z)
    if not (isinstance(low, int) and isinstance(high, int)):
        low, high = (by_group(bound).flatten(2) for bound in (low, high))
    _solve(z, codes, gram, _inverse_energy(gram), low, high, 0, inputs, block)
    z, codes = (numbers.view(len(weight), inputs, -1, rows) for numbers in (z, codes))
    found = codes.to(torch.int16).permute(2, 0, 3, 1).reshape(*alphabets, *batch, rows, inputs)
    if not errors:
        return found, None
    # Per input c (H_tt s (c - 2 z) - 2 (the upper triangle's sum)), in place of z, which is z + 1/2 here.
    change = z.mul_(-2).add_(1).add_(codes).mul_(gram.diagonal(dim1=-2, dim2=-1)[..., None, None]).mul_(by_group(step))
    change.sub_(2 * _triangle_product(cross, weight.mT, upper=True)[:, :, None]).mul_(codes)
    return found, (change.sum(1, keepdim=True) * by_group(step)).movedim(2, 0).reshape(step.shape)


def gpfq_by_residuals(weight, columns, step, low, high):
    """Codes (K, g, N, d) equal to those of :func:`gpfq`, and by residuals, the squared errors and the energies.

    ``weight`` (g, N, d); ``columns`` an iterable over the blocks that :func:`kdq.quantize.calibration.columns` yields;
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
        found = torch.empty_like(z)
        _solve(z, found, gram, _inverse_energy(gram), low, high, 0, stop - start, 32)
        decoded = found.view(groups, -1, alphabets, rows) * step
        wanted = here[:, :, None].expand_as(decoded)
        # One product with both kinds of columns reads and writes the residuals, the largest tensor, once.
        change = (wanted - decoded)[:, None] if block.shape[1] == 1 else torch.stack([wanted, -decoded], 1)
        residual.baddbmm_(change.flatten(3).flatten(1, 2).mT, kinds)
        outputs.baddbmm_(here.mT.to(outputs), columns_here[:, 0])
        codes.append(found.to(torch.int16))
        start = stop
    codes = torch.cat(codes, 1).view(groups, start, alphabets, rows).permute(2, 0, 3, 1)
    errors = residual.norm(dim=-1).square().view(groups, alphabets, rows).movedim(1, 0)
    return codes, errors, outputs.norm(dim=-1).double().square()


def _inverse_energy(gram):
    """1 / H_tt, and 0 for a dead input, whose z is then exactly 0 at every step."""
    energy = gram.diagonal(dim1=-2, dim2=-1)
    return torch.where(energy > 0, 1 / energy, 0.0)


def _triangle_product(matrix, right, upper=False, block=256):
    """tril(matrix), or triu(matrix, 1), @ right, by rows of blocks: half the work, and no copy of the (d, d) matrix."""
    product = torch.empty_like(right, memory_format=torch.contiguous_format)
    for start in range(0, matrix.shape[-1], block):
        stop = min(start + block, matrix.shape[-1])
        rows = matrix[:, start:stop]
        corner, rest = rows[..., start:stop], slice(stop, None) if upper else slice(0, start)
        product[:, start:stop] = (corner.triu(1) if upper else corner.tril()) @ right[:, start:stop]
        product[:, start:stop].baddbmm_(rows[..., rest], right[:, rest])
    return product


def _solve(z, codes, gram, inverse, low, high, start, stop, block):
    """Write the codes c_t of inputs ``start`` to ``stop``; ``z`` has H_tt z_t without those before, becomes z_t + 1/2.

    The first half is solved, corrects the second half in one matrix product, and the second half is solved:

        codes[start:middle]  <- solve
        z[middle:stop]       -= gram[middle:stop, start:middle] @ codes[start:middle]
        codes[middle:stop]   <- solve
    """
    if stop - start > block:
        middle = (start + stop) // 2
        _solve(z, codes, gram, inverse, low, high, start, middle, block)
        z[:, middle:stop].baddbmm_(gram[:, middle:stop, start:middle], codes[:, start:middle], alpha=-1)
        _solve(z, codes, gram, inverse, low, high, middle, stop, block)
        return
    # All of the block is z + 1/2 from here on: two operations fewer for every single column.
    scale = inverse[:, start:stop, None]
    panel, found = z[:, start:stop].mul_(scale).add_(0.5), codes[:, start:stop]
    lower = gram[:, start:stop, start:stop] * scale
    # The codes that are still to come count as 0: to cut them off for every column takes longer than to multiply them.
    found.zero_()
    for here, code, row in zip(*(rows.split(1, 1) for rows in (panel, found, lower)), strict=True):
        here.baddbmm_(row, found, alpha=-1)
        torch.floor(here, out=code).clamp_(low, high)


gpfq.by_residuals = gpfq_by_residuals
gpfq.with_errors = gpfq_with_errors
quantizer = gpfq
