"""The step of an alphabet: radius of the weights times a scale, given or chosen by the layer's error."""

import itertools
from dataclasses import dataclass

import torch

from kdq.quantize.gram.calibration import Calibration, columns
from kdq.quantize.quantizer import Quantizer, Rounding, check_codes, excess, nearest_codes

# The largest code times the step, as a share of the radius. With many Gaussian weights in a row and few bits it is best
# to clip most of the radius; share 1 clips nothing, which is best for short rows and many bits.
SHARES = (0.2, 0.24, 0.29, 0.35, 0.41, 0.48, 0.55, 0.62, 0.69, 0.76, 0.83, 0.89, 0.95, 1.0, 1.06)
# Rows quantized at once, times inputs: bounds the memory of a search.
CELLS = 2**24
# Rows and scales times patches: bounds the memory of residuals.
RESIDUALS = 2**25
# Patches from which a descent behind a ReLU takes its batches, and their numbers: 128 MiB each for X and X~.
ROWS, ROW_CELLS = 2**15, 2**25
# Time of a multiplication by residuals relative to one by Gram matrices, measured on layers of ResNet-18:
# its products are thin, and for every few columns the residuals of all patches are read and written.
RESIDUAL_TIME = 1.25
# Time of one of shifted images relative to one of patches: the matrices are small, and have to be put together.
SHIFTED_TIME = 2.0


@dataclass(frozen=True)
class Choice:
    """A layer's ``codes`` int16 (g, N, d), with per row ``step`` (float32) and ``scale``, both (g, N).

    ``relative_error`` is ||X W' - X~ Q'|| / ||X W'|| if the quantizer computes it from residuals, else None.
    """

    codes: torch.Tensor
    step: torch.Tensor
    scale: torch.Tensor
    relative_error: float | None = None


def grid(alphabet) -> tuple[float, ...]:
    """Return the scales C that a search compares, ascending: ``high * step`` is one of ``SHARES`` of the radius."""
    return tuple(share * alphabet.max_code / alphabet.high for share in SHARES)


def radius(weight, percentile, granularity, pruned=None) -> torch.Tensor:
    """Return R (g, N) of weight (g, N, d): the quantile of |w| per row; the mean over rows for granularity ``layer``.

    If the quantile of a row is 0, take its largest |w|. Weights that are ``pruned``, bool (g, N, d) or None, and rows
    of nothing else do not count.
    """
    smallest, largest = weight.aminmax(dim=-1)
    quantile = largest = torch.maximum(-smallest, largest)
    left = weight.new_full(largest.shape, weight.shape[-1]) if pruned is None else (~pruned).sum(-1).to(weight)
    if percentile < 1:
        magnitudes = weight.abs() if pruned is None else weight.abs().masked_fill(pruned, -1)  # before all others
        ascending = magnitudes.sort(-1).values
        position = weight.shape[-1] - left + percentile * (left - 1).clamp(min=0)
        position = position.clamp(max=weight.shape[-1] - 1)
        below, above = (rounded.long()[..., None] for rounded in (position.floor(), position.ceil()))
        quantile = ascending.gather(-1, below).lerp(ascending.gather(-1, above), position[..., None] - below)[..., 0]
        quantile = torch.where(quantile > 0, quantile, largest)
    if granularity == "channel":
        return quantile
    return (quantile[left > 0].mean() if (left > 0).any() else quantile.mean()).expand_as(quantile)


def candidates(weight, reach, alphabet, parameters, pruned=None) -> torch.Tensor:
    """Return the scales C (K, g, N) to quantize with: one per row, or for ``search`` all of :func:`grid`.

    ``weight`` (g, N, d), ``reach`` (g, N) its :func:`radius`.
    """
    if parameters.scale == "mse":
        return smallest_weight_error(weight, reach, alphabet, parameters.granularity)
    if parameters.scale == "minmax":
        return unclipped(weight, reach, alphabet, parameters, pruned)
    scales = weight.new_tensor(grid(alphabet) if parameters.scale == "search" else (parameters.scale,))
    return scales[:, None, None].expand(-1, *reach.shape)


def steps(scales, reach, alphabet) -> torch.Tensor:
    """Return the steps C R / 2^(b-1), float32; 1 for zero weights, whose codes are all 0."""
    step = (scales * reach / alphabet.max_code).float()
    return torch.where(step > torch.finfo(torch.float32).tiny, step, 1.0)


def smallest_weight_error(weight, reach, alphabet, granularity) -> torch.Tensor:
    """Return the C (1, g, N) of :func:`grid` with the smallest ||w - q||^2 of the nearest levels, per row or layer."""
    scales = weight.new_tensor(grid(alphabet))
    errors = []
    for step in steps(scales[:, None, None], reach, alphabet):
        codes = nearest_codes(weight, step, alphabet.low, alphabet.high)
        errors.append((weight - codes * step.double()[..., None]).square().sum(-1))
    errors = torch.stack(errors)
    if granularity == "layer":
        errors = errors.sum((1, 2), keepdim=True).expand_as(errors)
    return scales[errors.argmin(0)][None]


def unclipped(weight, reach, alphabet, parameters, pruned=None) -> torch.Tensor:
    """Return the C (1, g, N) of the smallest step whose levels span all weights within the percentile.

    An alphabet with one more level below 0 than above has a smaller step if the largest |w| is negative.
    """
    within = radius(weight, parameters.percentile, "channel", pruned)
    above, below = (torch.minimum(side.amax(-1), within).clamp(min=0) for side in (weight, -weight))
    step = torch.maximum(above / alphabet.high, below / -alphabet.low)
    if parameters.granularity == "layer":
        step = step.amax().expand_as(step)
    return torch.where(reach > 0, step * alphabet.max_code / reach, 1.0)[None]


def prefers_residuals(weight, calibration, scales) -> bool:
    """Return whether residuals take less time than Gram matrices, and fit in memory, for this number of scales."""
    groups, rows, inputs = weight.shape
    patches = calibration.patches
    by_residuals = RESIDUAL_TIME * patches * inputs * (3 * scales * rows + 2 * _columns_at_once(rows * scales))
    # Half of (d, d) times the rows for the target, half per scale for its codes, and a quarter for its errors.
    products = calibration.gram_multiplications * (SHIFTED_TIME if calibration.by_shifts else 1)
    by_gram = products + rows * inputs**2 * (0.5 + scales * (0.5 if scales == 1 else 0.75))
    return by_residuals < by_gram and groups * rows * scales * patches <= RESIDUALS


def _columns_at_once(rows) -> int:
    """Return the width of a block, whose small Gram matrices should stay cheap beside the products of the rows."""
    return min(108, max(54, rows // 3))


def choose(weight, calibration: Calibration, quantizer: Quantizer, alphabet) -> Choice:
    """Quantize ``weight`` (g, N, d) with the scale of :func:`candidates` that leaves the smallest error.

    All scales are quantized in one call, from Gram matrices or from residuals, whichever is cheaper: the codes are the
    same. With granularity ``channel`` every row takes its own best scale, which can only be better than one for all;
    with ``layer`` the rows share a step, and the smallest sum of errors decides. A quantizer that descends is called
    for the scale alone at which nearest codes leave the smallest error.
    """
    keys, bounds, pruned = quantizer.keys, (alphabet.low, alphabet.high), calibration.pruned
    reach = radius(weight, keys.percentile, keys.granularity, pruned)
    scales = candidates(weight, reach, alphabet, keys, pruned)
    step, energies = steps(scales, reach, alphabet), None
    if quantizer.from_residuals and pruned is None and prefers_residuals(weight, calibration, len(scales)):
        blocks = columns(*calibration.inputs, size=_columns_at_once(len(scales) * weight.shape[1]))
        codes, errors, energies = quantizer.codes_from_residuals(weight, blocks, step, *bounds)
        check_codes(codes, weight, step, *bounds)
    elif quantizer.descends:
        scales, step, codes = _descended(weight, calibration, quantizer, scales, step, *bounds)
        errors = torch.zeros_like(step)
    else:
        codes, errors = _by_gram(weight, calibration.gram_matrices(), quantizer, step, *bounds, pruned)
    best = _smallest(errors, keys.granularity)
    relative_error = None
    if energies is not None:
        energy = float(energies.sum())
        relative_error = (float(_of(best, errors).sum()) / energy) ** 0.5 if energy > 0 else 0.0
    return Choice(_of(best, codes), _of(best, step), _of(best, scales), relative_error)


def _descended(weight, calibration, quantizer, scales, step, low, high):
    """Return the scales and steps (1, g, N) at which nearest codes leave the smallest error, and codes (1, g, N, d)."""
    matrices = calibration.gram_matrices() if len(step) > 1 or calibration.passed is None else None
    if len(step) > 1:
        _, errors = _by_gram(weight, matrices, Rounding(quantizer.keys), step, low, high)  # a weight of 0 has code 0
        best = _smallest(errors, quantizer.keys.granularity)
        scales, step = _of(best, scales)[None], _of(best, step)[None]
    if calibration.passed is None:
        return scales, step, _by_gram(weight, matrices, quantizer, step, low, high, calibration.pruned)[0]
    passed = calibration.passed.reshape(2, *weight.shape[:2])
    rows = calibration.some_rows(min(ROWS, max(1, ROW_CELLS // weight[:, 0].numel())))
    codes = quantizer.codes_before_relu(weight, rows, passed, step, low, high)
    check_codes(codes, weight, step, low, high)
    return scales, step, codes


def _smallest(errors, granularity) -> torch.Tensor:
    """Return the indices (g, N) of the smallest of errors (K, g, N), per row or of the layer's sum."""
    compared = errors.sum((1, 2), keepdim=True).expand_as(errors) if granularity == "layer" else errors
    return compared.argmin(0)


def _of(best, values) -> torch.Tensor:
    """Return the values at the indices ``best`` (g, N) into the first dimension of ``values`` (K, g, N, ...)."""
    index = best.view(1, *best.shape, *[1] * (values.dim() - 3))
    return values.gather(0, index.expand(1, *values.shape[1:]))[0]


def _by_gram(weight, matrices, quantizer, step, low, high, pruned=None):
    """Return codes (K, g, N, d) for steps (K, g, N), and their errors up to a constant; zeros for a single scale.

    ``pruned`` (g, N, d) is bool, or None.
    """
    cross, gram = matrices
    codes, errors = [], []
    rows = max(1, CELLS // (weight[:, 0].numel() * len(step)))
    masks = itertools.repeat(None) if pruned is None else pruned.split(rows, 1)
    for part, steps, mask in zip(weight.split(rows, 1), step.split(rows, 2), masks, strict=False):
        arguments = part, cross, gram, steps, low, high
        if mask is not None:
            block = quantizer.codes_of_left(part, mask, *arguments[1:])
            errors += [excess(part, block, steps, cross, gram)] if len(step) > 1 else []
        elif len(step) > 1:
            block, error = quantizer.codes_with_errors(*arguments)
            errors.append(error)
        else:
            block = quantizer.codes(*arguments)
        check_codes(block, part, steps, low, high)
        codes.append(block)
    return torch.cat(codes, 2), torch.cat(errors, 2) if errors else torch.zeros_like(step)
