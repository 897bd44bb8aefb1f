"""Calibration: what a layer has to know of its inputs, summed over patches that never stand in memory together."""

import math

import torch
from torch import nn
from torch.nn import functional

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
    count, width = groups(module), module.weight[0].numel()
    gram = torch.zeros(count, width, width, dtype=torch.float64, device=analog.device)
    cross = gram if same else torch.zeros_like(gram)
    for x, xq in rows(module, analog, quantized, sampling, seed, chunk_bytes):
        gram.baddbmm_(xq.mT, xq)
        if not same:
            cross.baddbmm_(xq.mT, x)
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


def patches(module, inputs, stride=None) -> torch.Tensor:
    """The inputs of a layer's outputs as a view (M, height, width, C, kernel height, kernel width) that copies nothing.

    For nn.Linear the kernel is 1 x 1, and (M, ..., features) gives (M, positions, 1, features, 1, 1).
    """
    if isinstance(module, nn.Linear):
        return inputs.reshape(inputs.shape[0], -1, 1, inputs.shape[-1], 1, 1)
    padded = pad(module, inputs)
    (height, width), (down, right) = padded.shape[2:], module.dilation
    kernel, (step_down, step_right) = module.kernel_size, stride or module.stride
    rows = (height - down * (kernel[0] - 1) - 1) // step_down + 1
    columns = (width - right * (kernel[1] - 1) - 1) // step_right + 1
    of_sample, of_channel, of_row, of_column = padded.stride()
    return padded.as_strided(
        (padded.shape[0], rows, columns, padded.shape[1], *kernel),
        (of_sample, step_down * of_row, step_right * of_column, of_channel, down * of_row, right * of_column),
    )


def pad(module: nn.Conv2d, inputs) -> torch.Tensor:
    """The inputs with the border that the convolution itself would add, in its own padding mode."""
    if module.padding == "valid":
        return inputs
    if module.padding == "same":
        totals = [dilation * (size - 1) for dilation, size in zip(module.dilation, module.kernel_size, strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    else:
        (top, left) = (bottom, right) = module.padding
    if not (top or bottom or left or right):
        return inputs
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(inputs, (left, right, top, bottom), mode)


def sample(shape, sampling, seed) -> torch.Tensor | None:
    """Which of the (samples, height, width) patches to take, as ascending flat indices; None for all of them."""
    samples, positions = shape[0], shape[1] * shape[2]
    generator = torch.Generator().manual_seed(seed)
    if sampling == "paper":
        return paper_sample(samples, positions, generator)
    if sampling == "all" or sampling >= samples * positions:
        return None
    return torch.randperm(samples * positions, generator=generator)[:sampling].sort().values


def paper_sample(samples, positions, generator) -> torch.Tensor:
    """Per sample floor(0.25 L + 1) of its L patches, with replacement, as in the published code of GPFQ."""
    drawn = torch.randint(positions, (samples, math.floor(0.25 * positions + 1)), generator=generator)
    return (drawn + positions * torch.arange(samples)[:, None]).flatten()


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
