"""BatchNorm folded into the convolution before it: what a runtime computes, in codes, steps and integer biases."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.codes import Point, QuantizedWeight

BIAS_CODES = 2**31 - 1  # the largest code of an int32 bias
LARGEST = 127  # the largest code of a weight in a runtime, int8
WITHOUT_SATURATION = 64  # largest whose product with 255, twice, is within the 16 bits of processors without VNNI
FINE = 2**24  # codes of the bias of a row without weights: as fine as a float32


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution or linear layer with the BatchNorm behind it folded in.

    ``weight`` float32 if ``codes`` is None; else ``codes`` int16 of the weight's shape and ``step`` float32 (1,) or
    (rows,), which may be negative. ``bias`` float32 (rows,) or None. A runtime gets ``factor`` times the codes and the
    steps divided by it, see :func:`integer_bias`.
    """

    weight: Tensor | None
    codes: QuantizedWeight | None
    bias: Tensor | None
    factor: int = 1

    def decoded(self) -> Tensor:
        return self.weight if self.codes is None else self.codes.decode()


def fold(layer: nn.Module, norm: nn.Module | None, codes: QuantizedWeight | None) -> FoldedLayer:
    """Return ``layer`` with ``norm``, a BatchNorm in eval mode, folded in: y = gain (W x + b - mean) + beta.

    Codes stay, the step of a row is multiplied by gain = gamma / sqrt(variance + eps); a row of gain 0 has codes 0.
    """
    bias = layer.bias.detach().double().cpu() if layer.bias is not None else None
    weight = layer.weight.detach().cpu()
    if norm is None:
        return FoldedLayer(None if codes else weight, codes, None if bias is None else bias.float())
    gamma = norm.weight.detach().double().cpu() if norm.affine else torch.ones(norm.num_features).double()
    beta = norm.bias.detach().double().cpu() if norm.affine else torch.zeros(norm.num_features).double()
    gain = gamma / (norm.running_var.double().cpu() + norm.eps).sqrt()
    bias = beta + ((0 if bias is None else bias) - norm.running_mean.double().cpu()) * gain
    rows = [-1, *[1] * (weight.dim() - 1)]
    if codes is None:
        return FoldedLayer((weight.double() * gain.view(rows)).float(), None, bias.float())
    step = (codes.step.double() * gain).float()
    kept = torch.where((step == 0).view(rows), torch.zeros_like(codes.codes), codes.codes)
    return FoldedLayer(None, replace(codes, codes=kept, step=step), bias.float())


def integer_bias(folded: FoldedLayer, point: Point, name: str) -> tuple[FoldedLayer, Tensor]:
    """Return the layer whose bias is an int32 code in units of the input's scale times the row's step, and the codes.

    Codes of few bits leave room in a runtime's int8: ``factor`` times the codes, a power of two, with steps divided by
    it are the very same weights, and the units of the bias are finer by that factor. A row without weights has no step
    of its own: it gets one that is fine enough for its bias. Raise UserError if a bias exceeds int32.
    """
    codes, bias = folded.codes, folded.bias.double()
    step = codes.step.expand(len(bias)).clone()
    empty = step == 0
    step[empty] = (bias.abs() / point.scale.double() / FINE).float()[empty]
    step[step == 0] = 1.0
    factor = room(codes, point.bits)
    while (rounded := torch.round(bias / _units(step, point, factor))).abs().max() > BIAS_CODES and factor > 1:
        factor //= 2
    units = _units(step, point, factor)
    if rounded.abs().max() > BIAS_CODES:
        row = int(rounded.abs().argmax())
        raise UserError(f"{name}: the bias {bias[row]:g} of output {row} exceeds int32 in units of {units[row]:g}")
    step = step if codes.step.numel() > 1 or empty.any() else codes.step
    layer = FoldedLayer(None, replace(codes, step=step), (rounded * units).float(), factor)
    return layer, rounded.to(torch.int32)


def room(codes: QuantizedWeight, activation_bits: int) -> int:
    """Return the largest power of two, times which the codes still fit a runtime.

    They do within int8, beside 8-bit activations within -64 .. 64, so that no processor saturates.
    """
    low, high = (128, LARGEST) if activation_bits < 8 else (WITHOUT_SATURATION, WITHOUT_SATURATION)
    factor = 1
    while max(-2 * factor * codes.low - low, 2 * factor * codes.high - high) <= 0:
        factor *= 2
    return factor


def _units(step: Tensor, point: Point, factor: int) -> Tensor:
    """Return the units of biases, float64 of float32 products, as the graph multiplies them."""
    return (step / factor).mul(point.scale).double()
