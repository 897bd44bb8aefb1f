"""Calibration: what a layer has to know of its inputs, summed over patches that never stand in memory together."""

import torch
from torch import nn

from kdq.quantize import shifts
from kdq.quantize.patches import patches, sample

CHUNK_BYTES = 2**26


def groups(module) -> int:
    """The number of groups that a layer's outputs and inputs fall into; 1 for nn.Linear."""
    return getattr(module, "groups", 1)


def weight_matrix(module) -> torch.Tensor:
    """A layer's weight as (groups, outputs a group, inputs of an output), float64."""
    weight = module.weight.detach().double()
    return weight.reshape(groups(module), weight.shape[0] // groups(module), -1)


def gram_matrices(module, analog, quantized, sampling="all", seed=0, chunk_bytes=CHUNK_BYTES):
    """(cross, gram) = (X~'X, X~'X~) of an nn.Conv2d or nn.Linear, each (groups, d, d) in float64.

    ``analog`` and ``quantized``: the inputs of the same samples in the float and in the quantized network, (M, C, H, W)
    or (M, ..., features). ``sampling`` says which patches make the rows of X and X~: ``all`` the layer's own; an
    integer, at most so many, drawn without replacement; ``paper``, a convolution's as the published code draws them.
    Where the inputs are equal, both results are one tensor.
    """
    same = analog.data_ptr() == quantized.data_ptr() or torch.equal(analog, quantized)
    if sampling == "all" and shifts.apply_to(module):
        return shifts.gram_matrices(module, analog, quantized, same, chunk_bytes)
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
    is_convolution = isinstance(module, nn.Conv2d)
    if sampling == "paper" and not is_convolution:
        sampling = "all"  # a fully connected layer has no grid to thin out
    stride = module.kernel_size if sampling == "paper" else None
    views = [patches(module, inputs, stride) for inputs in (analog, quantized)]
    chosen = sample(views[0].shape[:3], sampling, seed)
    count, width = groups(module), module.weight[0].numel()
    for part in _chunks(views[0].shape[:3], chosen, max(1, chunk_bytes // (8 * count * width)), analog.device):
        yield tuple(_rows(view, part, count) for view in views)


def relative_error(pairs) -> float:
    """||A - B|| / ||A|| (Frobenius) over pairs of chunks (A, B), in float64; 0 where A is 0."""
    error = energy = 0.0
    for analog, quantized in pairs:
        error += float((analog - quantized).double().square().sum())
        energy += float(analog.double().square().sum())
    return (error / energy) ** 0.5 if energy > 0 else 0.0


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
        yield part // (height * width), part // width % height, part % width


def _rows(view, part, count) -> torch.Tensor:
    """The patches ``part`` of a view as float64 (groups, patches, inputs of an output)."""
    chunk = view[part].double().flatten(0, -4)
    return chunk.reshape(len(chunk), count, -1).movedim(1, 0)
