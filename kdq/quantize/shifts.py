"""Gram matrices of a convolution at stride 1, from products of shifted images instead of products of patches.

The entry of the Gram matrix for the kernel's taps k and l sums x[p + k] x'[p + l] over the outputs' pixels p, which is
x[r] x'[r + l - k] over a window of image pixels r = p + k. Pairs (k, l) with the same difference sum the same products,
over windows that differ by a row or a column at the border. So each difference is multiplied once, in pieces cut where
a window begins or ends, and a piece is added to every pair whose window holds it: for a kernel of 3 x 3 taps 25
products of images instead of 81, and 13 for the symmetric matrix. Nothing is subtracted. Pixels of zero padding are
left out, and no patch is ever written out.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from kdq.quantize.patches import borders, pad


def apply_to(module) -> bool:
    """Whether a layer is a convolution for which this way is exact and saves anything."""
    return isinstance(module, nn.Conv2d) and module.stride == (1, 1) and module.groups == 1 and _taps(module) > 1


def share(module) -> float:
    """Multiplications of both Gram matrices together, over those of products of patches, the borders left aside."""
    differences = _differences(module)
    return (differences + (differences + 1) / 2) / (2 * _taps(module) ** 2)


def gram_matrices(module, pairs, same, chunk_bytes):
    """(cross, gram) = (X~'X, X~'X~), each (1, d, d) in float64; one tensor where ``same``.

    ``pairs`` yields the inputs of the same samples in both networks, two (M, C, H, W) at a time.
    """
    cross = gram = None
    for analog, quantized in pairs:
        if gram is None:
            size = [length + sum(border) for length, border in zip(analog.shape[2:], borders(module), strict=True)]
            gram = _Sums(module, size, analog.device, symmetric=True)
            cross = None if same else _Sums(module, size, analog.device, symmetric=False)
        images = max(1, chunk_bytes // (8 * size[0] * size[1] * analog.shape[1]))
        for x, xq in zip(analog.split(images), quantized.split(images), strict=True):
            xq = _by_pixel(module, xq)
            gram.add(xq, xq)
            if cross:
                cross.add(xq, _by_pixel(module, x))
    gram = gram.matrix()
    return (cross.matrix() if cross else gram), gram


def _taps(module) -> int:
    return module.kernel_size[0] * module.kernel_size[1]


def _differences(module) -> int:
    return (2 * module.kernel_size[0] - 1) * (2 * module.kernel_size[1] - 1)


def _by_pixel(module, inputs):
    """The padded images as (H, W, M, C) in float64: what a run of pixels in a row holds is one matrix."""
    return pad(module, inputs).permute(2, 3, 0, 1).to(torch.float64, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class _Piece:
    """Pixels ``start .. stop`` along one side that the windows of the taps ``firsts`` hold, for l - k = ``difference``.

    ``shift`` is the difference in pixels.
    """

    difference: int
    shift: int
    start: int
    stop: int
    firsts: tuple[int, ...]


def _pieces(size, taps, dilation, zeros) -> list[_Piece]:
    """The pieces along one side of ``size`` pixels; the products of ``zeros`` = (before, behind) are left out."""
    window = size - dilation * (taps - 1)
    pieces = []
    for difference in range(1 - taps, taps):
        shift = difference * dilation
        firsts = range(max(0, -difference), taps - max(0, difference))
        edges = sorted({tap * dilation + end for tap in firsts for end in (0, window)})
        inside = max(zeros[0], zeros[0] - shift), min(size - zeros[1], size - zeros[1] - shift)
        edges = sorted({min(max(edge, inside[0]), inside[1]) for edge in edges})
        for start, stop in itertools.pairwise(edges):
            holding = tuple(tap for tap in firsts if tap * dilation <= start and stop <= tap * dilation + window)
            if holding:
                pieces.append(_Piece(difference, shift, start, stop, holding))
    return pieces


class _Sums:
    """The sums of all pieces, (C, C) each, for images of ``size`` with their border; a symmetric matrix needs half."""

    def __init__(self, module, size, device, symmetric):
        self.module, self.symmetric = module, symmetric
        zeros = borders(module) if module.padding_mode == "zeros" else [(0, 0), (0, 0)]
        sides = [_pieces(*of_side) for of_side in zip(size, module.kernel_size, module.dilation, zeros, strict=True)]
        pairs = itertools.product(*sides)
        self.pieces = [pair for pair in pairs if not symmetric or _not_mirrored(*pair)]
        channels = module.in_channels
        self.sums = torch.zeros(len(self.pieces), channels, channels, dtype=torch.float64, device=device)

    def add(self, left, right) -> None:
        """Add the products of two stacks of images (H, W, M, C)."""
        for total, (down, across) in zip(self.sums, self.pieces, strict=True):
            columns = slice(across.start, across.stop)
            shifted = slice(across.start + across.shift, across.stop + across.shift)
            for row in range(down.start, down.stop):
                here, there = left[row, columns], right[row + down.shift, shifted]
                total.addmm_(here.flatten(0, 1).mT, there.flatten(0, 1))

    def matrix(self):
        """The sums as (1, d, d), inputs in the order of a weight: channel, row, column."""
        (rows, columns), channels = self.module.kernel_size, self.module.in_channels
        shape = rows, columns, rows, columns, channels, channels
        gram = torch.zeros(shape, dtype=torch.float64, device=self.sums.device)
        for total, (down, across) in zip(self.sums, self.pieces, strict=True):
            mirrored = self.symmetric and (down.difference, across.difference) != (0, 0)
            for row, column in itertools.product(down.firsts, across.firsts):
                other = row + down.difference, column + across.difference
                gram[row, column][other] += total
                if mirrored:
                    gram[other][row, column] += total.mT
        return gram.permute(4, 0, 1, 5, 2, 3).reshape(1, channels * rows * columns, -1)


def _not_mirrored(down, across) -> bool:
    """Whether a piece of a symmetric matrix is to be multiplied: of two opposite differences, one is."""
    return (down.difference, across.difference) >= (0, 0)
