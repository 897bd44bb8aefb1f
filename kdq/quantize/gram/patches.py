"""The patches of a convolution's input: their positions, and a sample of them."""

import math

import torch
from torch import nn
from torch.nn import functional


def patches(module, inputs, stride=None, zero=0) -> torch.Tensor:
    """Return the inputs of a layer's outputs as a view (M, height, width, C, kernel height, kernel width).

    For nn.Linear the kernel is 1 x 1, and (M, ..., features) gives (M, positions, 1, features, 1, 1). A border of zeros
    has the value ``zero``.
    """
    inputs = inputs.to(module.weight.device)
    if isinstance(module, nn.Linear):
        return inputs.reshape(inputs.shape[0], -1, 1, inputs.shape[-1], 1, 1)
    return windows(module, pad(module, inputs, zero), stride)


def positions(module, shape, stride=None) -> tuple[int, int, int]:
    """Return the number of patches in inputs of ``shape``: (samples, rows, columns)."""
    if isinstance(module, nn.Linear):
        return shape[0], math.prod(shape[1:-1]), 1
    padded = [size + sum(border) for size, border in zip(shape[2:], borders(module), strict=True)]
    return shape[0], *_grid(module, padded, stride)


def _grid(module, padded, stride) -> list[int]:
    """Return the rows and columns of patches in images of ``padded`` rows and columns, their border included."""
    sides = zip(padded, module.kernel_size, module.dilation, stride or module.stride, strict=True)
    return [(size - dilation * (kernel - 1) - 1) // step + 1 for size, kernel, dilation, step in sides]


def windows(module: nn.Conv2d, padded, stride=None) -> torch.Tensor:
    """Return the patches of images (M, C, H, W) with their border, as a view like that of :func:`patches`."""
    samples, channels, *size = padded.shape
    (step_down, step_right), (down, right) = stride or module.stride, module.dilation
    of_sample, of_channel, of_row, of_column = padded.stride()
    return padded.as_strided(
        (samples, *_grid(module, size, stride), channels, *module.kernel_size),
        (of_sample, step_down * of_row, step_right * of_column, of_channel, down * of_row, right * of_column),
    )


def borders(module: nn.Conv2d) -> list[tuple[int, int]]:
    """Return the pixels that a convolution adds: [(top, bottom), (left, right)]."""
    if module.padding == "valid":
        return [(0, 0), (0, 0)]
    if module.padding == "same":
        totals = [dilation * (size - 1) for dilation, size in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(border, border) for border in module.padding]


def pad(module: nn.Conv2d, inputs, zero=0) -> torch.Tensor:
    """Return the inputs with the border that the convolution adds, in its padding mode; ``zero`` stands for zeros."""
    (top, bottom), (left, right) = borders(module)
    if not (top or bottom or left or right):
        return inputs
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(inputs, (left, right, top, bottom), mode, **({"value": zero} if mode == "constant" else {}))


def sample(shape, sampling, seed) -> torch.Tensor | None:
    """Return the (samples, height, width) patches to take, as flat indices, sample by sample; None for all of them.

    ``paper`` is the sampling of the published code of GPFQ.
    """
    samples, positions = shape[0], shape[1] * shape[2]
    generator = torch.Generator().manual_seed(seed)
    if sampling == "paper":  # per sample floor(0.25 L + 1) of its L patches, with replacement
        drawn = torch.randint(positions, (samples, math.floor(0.25 * positions + 1)), generator=generator)
        return (drawn + positions * torch.arange(samples)[:, None]).flatten()
    if sampling == "all" or sampling >= samples * positions:
        return None
    return torch.randperm(samples * positions, generator=generator)[:sampling].sort().values
