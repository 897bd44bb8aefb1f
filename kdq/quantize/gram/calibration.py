"""Calibration: summaries of a layer's inputs, from patches that are never all in memory."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from kdq.models import masks
from kdq.models.codes import Point
from kdq.quantize.gram import integers, shifts
from kdq.quantize.gram.patches import pad, patches, positions, sample, windows

# A layer's inputs: one tensor, or chunks of samples, which differ in their first dimension alone.
Inputs = torch.Tensor | Sequence[torch.Tensor]
CHUNK_BYTES = 2**26
COLUMN_BYTES = 2**27


def chunks(inputs: Inputs) -> Sequence[torch.Tensor]:
    """Return the inputs as chunks; a tensor is a single one."""
    return (inputs,) if isinstance(inputs, torch.Tensor) else inputs


def whole_shape(inputs: Inputs) -> tuple[int, ...]:
    """Return the shape of all chunks together."""
    return sum(map(len, chunks(inputs))), *chunks(inputs)[0].shape[1:]


def groups(module) -> int:
    """Return the number of groups of a layer's outputs and inputs; 1 for nn.Linear."""
    return getattr(module, "groups", 1)


def weight_matrix(module) -> torch.Tensor:
    """Return a layer's weight as (groups, outputs per group, inputs per output), float64."""
    weight = module.weight.detach().double()
    return weight.reshape(groups(module), weight.shape[0] // groups(module), -1)


def pruned_matrix(module) -> torch.Tensor | None:
    """Return which of a layer's weights are pruned, bool in the shape of :func:`weight_matrix`; None if none is."""
    mask = masks.mask_of(module)
    return None if mask is None else ~mask.reshape(groups(module), mask.shape[0] // groups(module), -1)


@dataclass(frozen=True)
class Calibration:
    """The inputs of a layer; each way to sum them up is computed on demand.

    ``analog`` and ``quantized``: the inputs of the same samples in the float and in the quantized network, (M, C, H, W)
    or (M, ..., features), or chunks of them, the rows of X and X~ by ``sampling``: see :func:`gram_matrices`.
    ``one_call``: they are the inputs of a single call of the layer. ``point``: the quantized activation of which the
    quantized inputs are values, if they are. ``passed``: the bounds (2, N) of the outputs less the bias that matter,
    those that a ReLU behind the layer passes on; None if all do.
    """

    module: nn.Module
    analog: Inputs
    quantized: Inputs
    sampling: str | int = "all"
    seed: int = 0
    one_call: bool = True
    point: Point | None = None
    passed: torch.Tensor | None = None

    @property
    def pruned(self) -> torch.Tensor | None:
        """Which weights are pruned, bool (groups, outputs per group, inputs per output); None if none is."""
        return pruned_matrix(self.module)

    @property
    def of_outputs(self) -> bool:
        """Return whether X W' are exactly the outputs of one call of the layer."""
        return self.sampling == "all" and self.one_call

    @property
    def inputs(self) -> tuple:
        """Return the arguments of the functions of this module."""
        return self.module, self.analog, self.quantized, self.sampling, self.seed

    def gram_matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (cross, gram), each (groups, d, d); computed at every call, since they take most of the memory."""
        return gram_matrices(*self.inputs, point=self.point)

    def some_rows(self, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows of X and X~ of the same patches, both (groups, patches, d) in float32; at most ``most`` drawn.

        The published sampling's are all returned.
        """
        count = self.sampling if isinstance(self.sampling, int) else most
        sampling = self.sampling if self.sampling == "paper" else min(count, most)
        parts = rows(self.module, self.analog, self.quantized, sampling, self.seed, dtype=torch.float32)
        return tuple(torch.cat(chunks, 1) for chunks in zip(*parts, strict=True))

    @cached_property
    def patches(self) -> int:
        """Return the number of rows of X."""
        shape, _, chosen = _selection(self.module, chunks(self.analog), self.sampling, self.seed)
        return math.prod(shape) if chosen is None else len(chosen)

    @property
    def by_shifts(self) -> bool:
        """Return whether Gram matrices come from products of shifted images."""
        return self.sampling == "all" and shifts.apply_to(self.module)

    @property
    def gram_multiplications(self) -> float:
        """Return the multiplications of one group's two Gram matrices."""
        if self.by_shifts:
            images, _, *size = whole_shape(self.analog)
            return images * shifts.multiplications(self.module, size)
        return 2 * self.patches * self.module.weight[0].numel() ** 2

    def finite(self) -> bool:
        """Return whether all inputs are finite numbers."""
        # A NaN anywhere is the smallest and the largest number: one pass, and no copy.
        every = itertools.chain(chunks(self.analog), chunks(self.quantized))
        return all(bool(torch.stack(inputs.aminmax()).isfinite().all()) for inputs in every)


def gram_matrices(module, analog, quantized, sampling="all", seed=0, chunk_bytes=CHUNK_BYTES, point=None):
    """Return (cross, gram) = (X~'X, X~'X~) of an nn.Conv2d or nn.Linear, each (groups, d, d) in float64.

    ``sampling`` selects the patches that make the rows of X and X~: ``all`` of the layer; an integer, at most that
    many, drawn without replacement; ``paper``, those of the published code. If the inputs are equal, both results are
    one tensor. With ``point`` X~ are values of that quantized activation, and X~'X~ is computed from their codes if
    that is faster; with shifted images it is not.
    """
    analog, quantized = chunks(analog), chunks(quantized)
    same, gram = _same(analog, quantized), None
    if sampling == "all" and shifts.apply_to(module):
        return shifts.gram_matrices(module, zip(analog, quantized, strict=True), same, chunk_bytes)
    if integers.apply_to(module, point):
        gram = integers.gram_matrix(_code_columns(module, quantized, point, sampling, seed, chunk_bytes), point)
        if same:
            return gram, gram
    known, count, width = gram is not None, groups(module), module.weight[0].numel()
    gram = gram if known else torch.empty(count, width, width, dtype=torch.float64, device=module.weight.device)
    cross = gram if same else torch.empty_like(gram)
    for index, (x, xq) in enumerate(rows(module, analog, quantized, sampling, seed, chunk_bytes)):
        # The first chunk overwrites, which saves writing hundreds of megabytes of zeros.
        if not known:
            gram.baddbmm_(xq.mT, xq, beta=min(index, 1))
        if not same:
            cross.baddbmm_(xq.mT, x, beta=min(index, 1))
    return cross, gram


def rows(module, analog, quantized, sampling="all", seed=0, chunk_bytes=CHUNK_BYTES, dtype=torch.float64):
    """Yield pairs (groups, patches, d): the rows of X and X~, of the same patches, in chunks."""
    analog, quantized = chunks(analog), chunks(quantized)
    selection = _selection(module, analog, sampling, seed)
    size = max(1, chunk_bytes // (dtype.itemsize * groups(module) * module.weight[0].numel()))
    for x, xq, taken in zip(analog, quantized, _by_chunk(selection, analog), strict=True):
        if taken is not None and not len(taken):  # few patches are drawn, and none of this chunk
            continue
        views = patches(module, x, selection[1]), patches(module, xq, selection[1])
        for part in _parts(views[0].shape[:3], taken, size, views[0].device):
            yield tuple(_rows(view, part, groups(module), dtype) for view in views)


def _code_columns(module, quantized, point, sampling, seed, chunk_bytes):
    """Yield the columns of X~ as shifted codes, (d, patches) in int8, in chunks of patches; for a single group."""
    selection, width = _selection(module, quantized, sampling, seed), module.weight[0].numel()
    size = min(integers.ROWS, max(1, chunk_bytes // width))
    for xq, taken in zip(quantized, _by_chunk(selection, quantized), strict=True):
        if taken is not None and not len(taken):
            continue
        view = patches(module, integers.shifted_codes(xq, point), selection[1], integers.border(point))
        for part in _parts(view.shape[:3], taken, size, view.device):
            # Written in this order, runs along a row of pixels are copied at once.
            yield view[part].movedim((-3, -2, -1), (0, 1, 2)).reshape(width, -1)


def columns(module, analog, quantized, sampling="all", seed=0, size=36):
    """Yield (groups, 2, b, patches): b columns of X and the same of X~, whole channels in the order of a weight.

    Together the blocks have all columns, in the inputs' type; b is about ``size``, less if there are many patches.
    If the inputs are equal, a block is (groups, 1, b, patches).
    """
    analog, quantized = chunks(analog), chunks(quantized)
    kinds = (analog,) if _same(analog, quantized) else (analog, quantized)
    selection = _selection(module, analog, sampling, seed)
    count, stride, pixels, places = groups(module), selection[1], [], []
    for taken, *parts in zip(_by_chunk(selection, analog), *kinds, strict=True):
        if taken is not None and not len(taken):
            continue
        images = [_images(module, part) for part in parts]
        pixels.append([_from_channel(kind).unflatten(0, (count, -1)) for kind in images])
        places.append(_pixels(module, images[0], taken, stride))
    channels, taps = pixels[0][0].shape[1], len(places[0][0])
    # Two kinds, and per number 4 bytes here and a copy of 8 where it is multiplied.
    gathered = max(1, COLUMN_BYTES // (24 * count * sum(where.numel() for where, _ in places)))
    for start in range(0, channels, gathered):
        some = slice(start, start + gathered)
        parts = [_block(kinds, *where, some) for kinds, where in zip(pixels, places, strict=True)]
        together = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        yield from together.split(max(1, size // taps) * taps, 2)


def _same(analog: Inputs, quantized: Inputs) -> bool:
    return all(torch.equal(x, xq) for x, xq in zip(analog, quantized, strict=True))


def _selection(module, inputs: Inputs, sampling, seed):
    """Return the (samples, rows, columns) of patches to draw from, their stride, and the flat indices to take.

    The stride is None for the layer's own, the indices are None for all.
    """
    stride = None
    if sampling == "paper":
        # A fully connected layer has no grid to thin out.
        sampling, stride = ("paper", module.kernel_size) if isinstance(module, nn.Conv2d) else ("all", None)
    shape = positions(module, whole_shape(inputs), stride)
    return shape, stride, sample(shape, sampling, seed)


def _by_chunk(selection, inputs: Inputs):
    """Return per chunk of samples the flat indices of its patches to take, None for all; see :func:`_selection`."""
    shape, _, chosen = selection
    if chosen is None:
        return [None] * len(inputs)
    ends = list(itertools.accumulate(len(chunk) * math.prod(shape[1:]) for chunk in inputs))
    return [chosen[(chosen >= start) & (chosen < end)] - start for start, end in itertools.pairwise([0, *ends])]


def _images(module, inputs) -> torch.Tensor:
    """Return a layer's input as contiguous (M, C, H, W); that of nn.Linear as images of one pixel."""
    if isinstance(module, nn.Linear):
        inputs = inputs.reshape(-1, inputs.shape[-1], 1, 1)
    return inputs.to(module.weight.device).contiguous()


def _from_channel(images) -> torch.Tensor:
    """Return a view (C, ...): row c is the memory of images (M, C, H, W) from channel c of the first image on.

    So a pixel has the same index in every row.
    """
    channels, of_channel = images.shape[1], images.stride(1)
    return images.as_strided((channels, images.numel() - (channels - 1) * of_channel), (of_channel, 1))


def _pixels(module, images, chosen, stride) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the indices of the patches' pixels in :func:`_from_channel`, (kernel height * width, patches), and a mask.

    The mask is 0 for pixels in a border of zeros, which is not in the images, and None if there are none.
    """
    samples, _, height, width = images.shape
    numbers = torch.arange(1.0, height * width + 1, dtype=torch.float64).view(1, 1, height, width)
    # The border has 0, or the numbers of the pixels that the padding mode repeats there.
    view = windows(module, pad(module, numbers), stride) if isinstance(module, nn.Conv2d) else numbers[..., None, None]
    places = view.expand(samples, *view.shape[1:])
    places = places.flatten(0, 2) if chosen is None else places[_indices(chosen, places.shape[:3])]
    of_sample = math.prod(view.shape[1:3])
    sample_of = torch.arange(samples).repeat_interleave(of_sample) if chosen is None else chosen // of_sample
    places = places.flatten(1).long().mT - 1
    inside = None if places.min() >= 0 else (places >= 0).to(images)
    places = places.clamp_(min=0) + images.stride(0) * sample_of
    return places.contiguous().to(images.device), inside


def _block(kinds, places, inside, channels) -> torch.Tensor:
    """Return (groups, kinds, b, patches): the pixels at ``places`` (taps, patches) of some channels."""
    parts = [numbers[:, channels] for numbers in kinds]
    flat = places.flatten().expand(*parts[0].shape[:2], -1)
    block = torch.stack([part.gather(2, flat) for part in parts], 1).unflatten(3, places.shape)
    return (block if inside is None else block.mul_(inside)).flatten(2, 3)


def _indices(flat, shape):
    """Return (sample, row, column) of flat indices into patches of shape (samples, height, width)."""
    _, height, width = shape
    return flat // (height * width), flat // width % height, flat % width


def _parts(shape, chosen, size, device):
    """Yield (sample, row, column) indices of ``size`` patches at a time; slices of whole samples if all are taken."""
    samples, height, width = shape
    if chosen is None and size >= height * width:
        whole = size // (height * width)
        for start in range(0, samples, whole):
            yield (slice(start, start + whole),)
        return
    flat = torch.arange(samples * height * width) if chosen is None else chosen
    for part in flat.to(device).split(size):
        yield _indices(part, shape)


def _rows(view, part, count, dtype) -> torch.Tensor:
    """Return the patches ``part`` of a view as (groups, patches, inputs per output)."""
    chunk = view[part].to(dtype).flatten(0, -4)
    return chunk.reshape(len(chunk), count, -1).movedim(1, 0)
