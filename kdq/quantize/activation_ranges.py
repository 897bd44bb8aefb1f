"""Scales of quantized activations, from the float network on the calibration images.

``minmax`` covers all values. ``percentile`` leaves out the outermost 0.01%. ``mse`` shrinks the range as long as the
mean squared rounding and clipping error falls. The last two read a histogram of the tensor's values.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.activations import BEHIND, OUTPUT, Point, groups, module_and_place, observed, readers
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.outputs import NO_OUTPUTS, Outputs

BINS = 2048
OUTSIDE = 1e-4  # share of the values outside a percentile's range
SHRUNK = [1 - step / 100 for step in range(91)]  # factors of the range that `mse` compares


@torch.no_grad()
def measured_points(
    network: nn.Module,
    layers: Iterable[str],
    images: Tensor,
    bits: int,
    method: str,
    outputs: Outputs = NO_OUTPUTS,
    chunk: int = 64,
) -> list[Point]:
    """Return the points of a network, in eval mode, whose quantized layers are named ``layers``, and of its outputs.

    They have ``bits`` bits and the range that ``method`` gives on ``images``. Raise UserError, naming the module, for
    values that are not finite.
    """
    modules = readers(network, layers)
    tensors = [_with_giver(reading, outputs.shared) for reading in groups(network, modules, floats(images[:1]))]
    tensors += [(name + OUTPUT,) for name in outputs.convolutions]
    ranges = [torch.zeros(2) for _ in tensors]

    def widen(index, tensor):
        low, high = tensor.aminmax()
        ranges[index] = torch.stack([low.cpu().min(ranges[index][0]), high.cpu().max(ranges[index][1])])

    visit = functools.partial(_visit, network, modules, tensors, images, chunk)
    visit(widen)
    for reading, range_ in zip(tensors, ranges, strict=True):
        if not range_.isfinite().all():
            raise UserError(f"{reading[0]}: infinite or NaN inputs, expected finite numbers")
    if method != "minmax":
        ranges = _narrowed(ranges, visit, bits, method)
    return [_point(reading, range_, bits) for reading, range_ in zip(tensors, ranges, strict=True)]


def _with_giver(reading: tuple[str, ...], shared: dict[str, str]) -> tuple[str, ...]:
    """Return the readers of a point with the module that gives it, if it is quantized as that gives it."""
    givers = {shared[reader] for reader in reading if reader in shared}
    return (*reading, *(giver + OUTPUT for giver in sorted(givers)))


def _visit(network, modules, tensors, images, chunk, action: Callable[[int, Tensor], None]) -> None:
    """Call ``action(index, values)`` for every point and chunk of images, before the tensor may change in place."""
    first = {module_and_place(reading[0]): index for index, reading in enumerate(tensors)}
    inputs = {name: modules[name] for name, place in first if place != BEHIND}
    names = {network.get_submodule(name): name for name, place in first if place == BEHIND}

    def read(name, given):
        for place, tensor in enumerate(given):
            if (name, place) in first:
                action(first[name, place], tensor.float())

    with contextlib.ExitStack() as hooks:
        hooks.enter_context(observed(inputs, read))
        for module in names:
            give = lambda module, given, output: action(first[names[module], BEHIND], output.float())  # noqa: E731
            hooks.enter_context(module.register_forward_hook(give))
        for batch in images.split(chunk):
            network(floats(batch))


def _narrowed(ranges, visit, bits: int, method: str) -> list[Tensor]:
    """Return the ranges of ``method``, which reads a histogram of each tensor over its whole range."""
    counts = [torch.zeros(BINS, dtype=torch.float64) for _ in ranges]

    def count(index, tensor):
        low, high = ranges[index].tolist()
        if high > low:
            counts[index] += torch.histc(tensor, BINS, low, high).double().cpu()

    visit(count)
    narrow = _percentile if method == "percentile" else _least_squares
    return [
        narrow(range_, count, bits) if range_[1] > range_[0] else range_
        for range_, count in zip(ranges, counts, strict=True)
    ]


def _percentile(range_: Tensor, counts: Tensor, bits: int) -> Tensor:
    shares = counts.cumsum(0) / counts.sum()
    outside = OUTSIDE / 2 if range_[0] < 0 < range_[1] else OUTSIDE
    edges = torch.linspace(*range_.tolist(), BINS + 1)
    low = edges[int((shares <= outside).sum())] if range_[0] < 0 else range_[0]
    high = edges[min(BINS, int((shares < 1 - outside).sum()) + 1)] if range_[1] > 0 else range_[1]
    return torch.stack([low.clamp(max=0), high.clamp(min=0)])


def _least_squares(range_: Tensor, counts: Tensor, bits: int) -> Tensor:
    edges = torch.linspace(*range_.tolist(), BINS + 1)
    centers = (edges[1:] + edges[:-1]) / 2
    candidates = range_ * torch.tensor(SHRUNK)[:, None]  # (K, 2)
    scale = (candidates[:, 1:] - candidates[:, :1]) / (2**bits - 1)
    zero_point = torch.round(-candidates[:, :1] / scale)
    codes = (torch.round(centers / scale) + zero_point).clamp(0, 2**bits - 1)
    errors = ((codes - zero_point) * scale - centers).double().square() @ counts
    return candidates[errors.argmin()]


def _point(readers: tuple[str, ...], range_: Tensor, bits: int) -> Point:
    low, high = range_.tolist()
    scale = torch.tensor((high - low) / (2**bits - 1) if high > low else 1.0, dtype=torch.float32)
    zero_point = min(max(round(-low / float(scale)), 0), 2**bits - 1)
    return Point(readers, bits, scale, zero_point)
