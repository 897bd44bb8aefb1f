"""RTN: round to nearest, the baseline of every quantizer."""

import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer


class Parameters(Quantizing):
    """RTN: every weight goes to the nearest level; the calibration images only choose the scale."""


def rtn(weight, cross, gram, step, low, high) -> torch.Tensor:
    """Return integer codes (int16) clip(floor(weight / step + 1/2), low, high); ``cross`` and ``gram`` are ignored.

    ``weight`` (..., N, d); ``step`` a number, (..., N), or (K, ..., N) for K alphabets; ``low`` and ``high`` integers,
    or tensors that broadcast like ``step``. Returns the shape of ``weight``, or (K, ..., N, d).
    """
    step, low, high = (
        torch.as_tensor(value, dtype=torch.float64, device=weight.device)[..., None] for value in (step, low, high)
    )
    return (weight.double() / step).add_(0.5).floor_().clamp_(low, high).to(torch.int16)


class RTN(Quantizer):
    """:func:`rtn` as a stage."""

    codes = staticmethod(rtn)
