"""Weights whose inputs are all zero on the calibration images, which therefore tell nothing about them.

Every code leaves the same error there, and quantizers that follow the inputs give code 0: the outputs would stay zero
for images on which the inputs are not. Such weights are rounded to the nearest instead, with the step that suits them
best. A single input that is always zero beside others keeps code 0, as published: it changes nothing that was seen, and
zeros take no room in an archive.
"""

from dataclasses import replace

import torch

from kdq.quantize.bits.scale import Choice, grid, radius, smallest_weight_error, steps
from kdq.quantize.gram.calibration import Calibration, rows
from kdq.quantize.quantizer import nearest_codes


def rounded_where_silent(choice: Choice, weight, calibration: Calibration, alphabet, keys) -> Choice:
    """Return the choice with rounded weights in each group, of ``weight`` (g, N, d), without an input other than 0."""
    zero = ~choice.codes.flatten(1).any(1)
    if keys.scale == "search":  # of equal errors the first scale's wins
        zero |= (choice.scale == weight.new_tensor(grid(alphabet)[0])).all(1)
    zero &= weight.flatten(1).any(1)
    if not zero.any():
        return choice
    silent = (zero & ~_heard(calibration))[:, None]
    scale = choice.scale
    if keys.scale == "search" and (keys.granularity == "channel" or silent.all()):
        reach = radius(weight, keys.percentile, keys.granularity, calibration.pruned)
        scale = torch.where(silent, smallest_weight_error(weight, reach, alphabet, keys.granularity)[0], scale)
        step = torch.where(silent, steps(scale, reach, alphabet), choice.step)
    else:
        step = choice.step
    nearest = nearest_codes(weight, step, alphabet.low, alphabet.high)
    codes = torch.where(silent[..., None], nearest, choice.codes)
    return replace(choice, codes=codes, step=step, scale=scale)


def _heard(calibration: Calibration) -> torch.Tensor:
    """Return for every group of a layer whether any of its inputs in the quantized network is not zero."""
    return torch.stack([quantized.flatten(1).any(1) for _, quantized in rows(*calibration.inputs)]).any(0)
