"""Calibration: what a layer has to know of its inputs, from patches that never stand in memory together."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from kdq.quantize import shifts
from kdq.quantize.patches import pad, patches, sample, windows

CHUNK_BYTES = 2**26
COLUMN_BYTES = 2**27


def groups(module) -> int:
    """The number of groups that a layer's outputs and inputs fall into; 1 for nn.Linear."""
    return getattr(module, "groups", 1)


def weight_matrix(module) -> torch.Tensor:
    """A layer's weight as (groups, outputs a group, inputs of an output), float64."""
    weight = module.weight.detach().double()
    return weight.reshape(groups(module), weight.shape[0] // groups(module), -1)


@dataclass(frozen=True)
class Calibration:
    """What a layer was given; of the ways to sum it up, only the one that a quantizer asks for is computed.

    ``analog`` and ``quantized``: the inputs of the same samples in the float and in the quantized network, (M, C, H, W)
    or (M, ..., features), the rows of X and X~ by ``sampling``, as in :func:`gram_matrices`.
    """

    module: nn.Module
    analog: torch.Tensor
    quantized: torch.Tensor
    sampling: str | int = "all"
    seed: int = 0

    @property
    def inputs(self) -> tuple:
        """The arguments of the functions of this file."""
        return self.module, self.analog, self.quantized, self.sampling, self.seed

    def gram_matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(cross, gram), each (groups, d, d); computed anew at every call, as they take most of the memory."""
        return gram_matrices(*self.inputs)

    @cached_property
    def patches(self) -> int:
        """How many rows X has."""
        first = self.analog[:1]  # one sample tells, and need not be padded with all the others
        (view, _), chosen = _views(self.module, first, first, self.sampling, self.seed)
        every = len(self.analog) * math.prod(view.shape[:3])
        if isinstance(self.sampling, int):
            return min(self.sampling, every)
        return every if chosen is None else len(self.analog) * len(chosen)

    @property
    def gram_multiplications(self) -> float:
        """Multiplications of one group's two Gram matrices."""
        share = shifts.share(self.module) if self.sampling == "all" and shifts.apply_to(self.module) else 1
        return 2 * share * self.patches * self.module.weight[0].numel() ** 2

    def finite(self) -> bool:
        """Whether all inputs are finite numbers."""
        # A NaN anywhere is the smallest and the largest number: one pass, and no copy.
        return all(bool(torch.stack(inputs.aminmax()).isfinite().all()) for inputs in (self.analog, self.quantized))


def gram_matrices(module, analog, quantized, sampling="all", seed=0, chunk_bytes=CHUNK_BYTES):
    """(cross, gram) = (X~'X, X~'X~) of an nn.Conv2d or nn.Linear, each (groups, d, d) in float64.

    ``analog`` and ``quantized``: the inputs of the same samples in the float and in the quantized network, (M, C, H, W)
    or (M, ..., features). ``sampling`` says which patches make the rows of X and X~: ``all`` the layer's own; an
    integer, at most so many, drawn without replacement; ``paper``, a convolution's as the published code draws them.
    Where the inputs are equal, both results are one tensor.
    """
    same = _same(analog, quantized)
    if sampling == "all" and shifts.apply_to(module):
        return shifts.gram_matrices(module, [(analog, quantized)], same, chunk_bytes)
    count, width = groups(module), module.weight[0].numel()
    gram = torch.empty(count, width, width, dtype=torch.float64, device=analog.device)
    cross = gram if same else torch.empty_like(gram)
    for index, (x, xq) in enumerate(rows(module, analog, quantized, sampling, seed, chunk_bytes)):
        # The first chunk overwrites: hundreds of megabytes of zeros need not be written first.
        gram.baddbmm_(xq.mT, xq, beta=min(index, 1))
        if not same:
            cross.baddbmm_(xq.mT, x, beta=min(index, 1))
    return cross, gram


def rows(module, analog, quantized, sampling="all", seed=0, chunk_bytes=CHUNK_BYTES):
    """Yield pairs of float64 (groups, patches, d): the rows of X and X~, of the same patches, in chunks."""
    views, chosen = _views(module, analog, quantized, sampling, seed)
    count, width = groups(module), module.weight[0].numel()
    for part in _chunks(views[0].shape[:3], chosen, max(1, chunk_bytes // (8 * count * width)), analog.device):
        yield tuple(_rows(view, part, count) for view in views)


def columns(module, analog, quantized, sampling="all", seed=0, size=36):
    """Yield (groups, 2, b, patches): b columns of X and the same of X~, whole channels in the order of a weight.

    Together the blocks have all columns, in the inputs' own type; b is about ``size``, less where the patches are many.
    Where the inputs are equal, a block is (groups, 1, b, patches).
    """
    kinds = [_images(module, inputs) for inputs in ((analog,) if _same(analog, quantized) else (analog, quantized))]
    where = _pixels(module, kinds[0], sampling, seed)
    count, channels = groups(module), kinds[0].shape[1]
    pixels = [_from_channel(images).unflatten(0, (count, -1)) for images in kinds]
    # Two kinds, and besides the 4 bytes a number here a copy of 8 where they are multiplied.
    step = max(1, min(size // len(where), COLUMN_BYTES // (24 * count * where.numel())))
    for start in range(0, channels // count, step):
        parts = [numbers[:, start : start + step] for numbers in pixels]
        places = where.flatten().expand(*parts[0].shape[:2], -1)
        block = torch.stack([part.gather(2, places) for part in parts], 1)
        yield block.unflatten(3, where.shape).flatten(2, 3)


def relative_error(pairs) -> float:
    """||A - B|| / ||A|| (Frobenius) over pairs of chunks (A, B); 0 where A is 0."""
    error = energy = 0.0
    for analog, quantized in pairs:
        error += _squared_norm(analog - quantized)
        energy += _squared_norm(analog)
    return (error / energy) ** 0.5 if energy > 0 else 0.0


def _squared_norm(chunk) -> float:
    """||chunk||^2, summed in float64 over the first dimension, in the chunk's own precision over the others."""
    return float(chunk.flatten(1).norm(dim=1).double().square().sum())


def _same(analog, quantized) -> bool:
    return analog.data_ptr() == quantized.data_ptr() or torch.equal(analog, quantized)


def _views(module, analog, quantized, sampling, seed):
    """All patches of both inputs as views, and the flat indices of those to take, None for all."""
    sampling, stride = _grid(module, sampling)
    views = [patches(module, analog, stride)]
    views.append(views[0] if quantized is analog else patches(module, quantized, stride))
    return views, sample(views[0].shape[:3], sampling, seed)


def _grid(module, sampling):
    """The sampling, and the stride of the patches it draws from, None for the layer's own."""
    if sampling != "paper":
        return sampling, None
    # A fully connected layer has no grid to thin out.
    return ("paper", module.kernel_size) if isinstance(module, nn.Conv2d) else ("all", None)


def _images(module, inputs) -> torch.Tensor:
    """A layer's input as contiguous (M, C, H, W), border included; that of nn.Linear as images of one pixel."""
    if isinstance(module, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1], 1, 1).contiguous()
    return pad(module, inputs).contiguous()


def _from_channel(images) -> torch.Tensor:
    """(C, ...): row c is the memory of images (M, C, H, W) from channel c of the first on, copying nothing.

    So a pixel has the same index in every row.
    """
    channels, of_channel = images.shape[1], images.stride(1)
    return images.as_strided((channels, images.numel() - (channels - 1) * of_channel), (of_channel, 1))


def _pixels(module, images, sampling, seed) -> torch.Tensor:
    """(kernel height * width, patches): where :func:`_from_channel` has the pixels of the patches to take."""
    sampling, stride = _grid(module, sampling)
    samples, _, height, width = images.shape
    pixels = torch.arange(height * width).view(1, 1, height, width)
    pixels = pixels + images.stride(0) * torch.arange(samples).view(-1, 1, 1, 1)
    view = windows(module, pixels, stride) if isinstance(module, nn.Conv2d) else pixels[..., None, None]
    chosen = sample(view.shape[:3], sampling, seed)
    taken = view.flatten(0, 2) if chosen is None else view[_indices(chosen, view.shape[:3])]
    return taken.flatten(1).mT.contiguous().to(images.device)


def _indices(flat, shape):
    """(sample, row, column) of flat indices into patches of shape (samples, height, width)."""
    _, height, width = shape
    return flat // (height * width), flat // width % height, flat % width


def _chunks(shape, chosen, size, device):
    """(sample, row, column) indices of ``size`` patches at a time; slices of whole samples where all are taken."""
    samples, height, width = shape
    if chosen is None and size >= height * width:
        whole = size // (height * width)
        for start in range(0, samples, whole):
            yield (slice(start, start + whole),)
        return
    flat = torch.arange(samples * height * width) if chosen is None else chosen
    for part in flat.to(device).split(size):
        yield _indices(part, shape)


def _rows(view, part, count) -> torch.Tensor:
    """The patches ``part`` of a view as float64 (groups, patches, inputs of an output)."""
    chunk = view[part].double().flatten(0, -4)
    return chunk.reshape(len(chunk), count, -1).movedim(1, 0)
