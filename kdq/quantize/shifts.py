"""Gram matrices of a convolution at stride 1, from products of shifted images instead of products of patches.

The entry of the Gram matrix for the kernel's taps k and l sums x[p + k] x'[p + l] over the outputs' pixels p, which is
x[r] x'[r + l - k] over a window of image pixels r = p + k. Pairs (k, l) with the same difference sum the same products,
over windows that differ by a row or a column at the border. So each difference is multiplied once, in pieces cut where
a window begins or ends, and a piece is added to every pair whose window holds it: for a kernel of 3 x 3 taps 25
products of images instead of 81, and 13 for the symmetric matrix. Pixels of zero padding are left out, and no patch is
ever written out.

The differences along a row are a short correlation, whose sums over whole rows come from fewer products still
(:mod:`kdq.quantize.filtering`): for 3 taps 12 products of images for 8 pixels instead of 40. Of these sums the pieces
at the border are taken away, and the long piece is left.
"""

import itertools
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from kdq.quantize.filtering import MOST_PRODUCTS, minimal_filter
from kdq.quantize.patches import borders, pad

# Bytes of a stack of images, small enough that what is made of it stays in a processor's cache, and the fewest rows of
# a product, so that to read and write the sums costs little beside it.
STACK_BYTES, PRODUCT_ROWS = 2**22, 256


def apply_to(module) -> bool:
    """Whether a layer is a convolution for which this way is exact and saves anything."""
    return isinstance(module, nn.Conv2d) and module.stride == (1, 1) and module.groups == 1 and _taps(module) > 1


def multiplications(module, size) -> float:
    """Multiplications of both Gram matrices together for an image of ``size`` (rows, columns)."""
    size = _padded(module, size)
    return module.in_channels**2 * sum(_Plan(module, size, symmetric).products for symmetric in (True, False))


def gram_matrices(module, pairs, same, chunk_bytes):
    """(cross, gram) = (X~'X, X~'X~), each (1, d, d) in float64; one tensor where ``same``.

    ``pairs`` yields the inputs of the same samples in both networks, two (M, C, H, W) at a time.
    """
    cross = gram = None
    for analog, quantized in pairs:
        if gram is None:
            size = _padded(module, analog.shape[2:])
            gram = _Sums(module, _Plan(module, size, symmetric=True), analog.device)
            cross = None if same else _Sums(module, _Plan(module, size, symmetric=False), analog.device)
            images = _images(size, analog.shape[1], chunk_bytes)
        for x, xq in zip(analog.split(images), quantized.split(images), strict=True):
            xq = _Stack(module, xq, gram.plan)
            gram.add(xq, xq)
            if cross:
                cross.add(xq, _Stack(module, x, cross.plan))
    gram = gram.matrix()
    return (cross.matrix() if cross else gram), gram


def _taps(module) -> int:
    return module.kernel_size[0] * module.kernel_size[1]


def _padded(module, size) -> tuple[int, int]:
    return tuple(length + sum(border) for length, border in zip(size, borders(module), strict=True))


def _images(size, channels, chunk_bytes) -> int:
    """How many images make a stack."""
    image_bytes = 8 * size[0] * size[1] * channels
    return max(1, min(chunk_bytes // image_bytes, max(STACK_BYTES // image_bytes, -(-PRODUCT_ROWS // size[1]))))


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

    @property
    def length(self) -> int:
        return self.stop - self.start


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


class _Plan:
    """Which products of images a Gram matrix takes, for images of ``size`` with their border.

    ``direct`` has the pairs of a piece down and one across that are multiplied as they are. With ``tile`` > 0 so many
    pixels of a row at a time are multiplied for all differences across, for each piece of ``rows``, and the longest
    piece of each difference, in ``longest``, is what the others leave. A symmetric matrix needs half.
    """

    def __init__(self, module, size, symmetric):
        zeros = borders(module) if module.padding_mode == "zeros" else [(0, 0), (0, 0)]
        sides = zip(size, module.kernel_size, module.dilation, zeros, strict=True)
        down, across = (_pieces(*side) for side in sides)
        self.symmetric, self.taps = symmetric, module.kernel_size[1]
        self.first, self.columns = zeros[1][0], size[1] - sum(zeros[1])
        by_difference = itertools.groupby(across, key=lambda piece: piece.difference)
        self.longest = [max(pieces, key=lambda piece: piece.length) for _, pieces in by_difference]
        border = [piece for piece in across if piece not in self.longest]
        self.tile = self._best_tile(module, across, border)
        pairs = itertools.product(down, border if self.tile else across)
        self.direct = [pair for pair in pairs if not symmetric or _not_mirrored(*pair)]
        self.rows = [piece for piece in down if self.tile and (piece.difference >= 0 or not symmetric)]

    def _best_tile(self, module, across, border) -> int:
        """Pixels of a tile with the fewest products; 0 where that is no fewer than those of the pieces."""
        tiles = range(1, MOST_PRODUCTS - 2 * (self.taps - 1) + 1)
        if module.dilation[1] > 1 or self.taps == 1 or not tiles:
            return 0
        best = min(tiles, key=self._products_of_row)
        of_pieces, of_border = (sum(piece.length for piece in pieces) for pieces in (across, border))
        return best if self._products_of_row(best) + of_border < of_pieces else 0

    def _products_of_row(self, tile) -> int:
        return -(-self.columns // tile) * (tile + 2 * (self.taps - 1))

    @property
    def products(self) -> int:
        """Products of pixels, each of all channels with all channels, for an image."""
        direct = sum(down.length * across.length for down, across in self.direct)
        return direct + sum(down.length for down in self.rows) * (self.tile and self._products_of_row(self.tile))


class _Stack:
    """Images (M, C, H, W) as what is multiplied; each form is made once, when it is asked for."""

    def __init__(self, module, inputs, plan):
        padded = pad(module, inputs).permute(2, 3, 0, 1)
        # (H, W, M, C) in float64: what a run of pixels in a row holds is one matrix
        self.pixels = padded.to(torch.float64, memory_format=torch.contiguous_format)
        self.plan = plan

    @cached_property
    def tiles(self) -> torch.Tensor:
        """The rows in tiles that overlap, the zeros around them included: (products, H, tiles, M, C)."""
        plan, reach = self.plan, self.plan.taps - 1
        count = -(-plan.columns // plan.tile)
        held = self.pixels[:, plan.first : plan.first + plan.columns]
        height, _, *image = held.shape
        wide = held.new_zeros(height, count * plan.tile + 2 * reach, *image)
        wide[:, reach : reach + plan.columns] = held
        return wide.unfold(1, plan.tile + 2 * reach, plan.tile).movedim(-1, 0).contiguous()

    @cached_property
    def once(self) -> torch.Tensor:
        """The values of each tile's own pixels, which every product has as its one factor."""
        reach = self.plan.taps - 1
        return self._values(0, self.tiles[reach : reach + self.plan.tile])

    @cached_property
    def around(self) -> torch.Tensor:
        """The values of each tile and the pixels beside it, the other factor."""
        return self._values(1, self.tiles)

    def _values(self, which, tiles):
        matrix = minimal_filter(2 * self.plan.taps - 1, self.plan.tile)[which].to(tiles.device)
        return (matrix @ tiles.flatten(1)).view(len(matrix), *tiles.shape[1:])


class _Sums:
    """The sums of a plan's products, (C, C) each."""

    def __init__(self, module, plan, device):
        self.module, self.plan = module, plan
        channels = module.in_channels
        products = plan.tile + 2 * (plan.taps - 1)
        self.direct = torch.zeros(len(plan.direct), channels, channels, dtype=torch.float64, device=device)
        self.rows = torch.zeros(len(plan.rows), products, channels, channels, dtype=torch.float64, device=device)

    def add(self, left, right) -> None:
        """Add the products of two stacks of images."""
        for total, (down, across) in zip(self.direct, self.plan.direct, strict=True):
            columns = slice(across.start, across.stop)
            shifted = slice(across.start + across.shift, across.stop + across.shift)
            here = left.pixels[down.start : down.stop, columns]
            there = right.pixels[down.start + down.shift : down.stop + down.shift, shifted]
            for own, other in self._matrices(here, there):
                total.addmm_(own.mT, other)
        for total, down in zip(self.rows, self.plan.rows, strict=True):
            here = left.once[:, down.start : down.stop].flatten(1, 3)
            there = right.around[:, down.start + down.shift : down.stop + down.shift].flatten(1, 3)
            total.baddbmm_(here.mT, there)

    @staticmethod
    def _matrices(here, there):
        """Yield both as matrices: a row at a time without a copy, or of short rows all."""
        if here.shape[1] * here.shape[2] < PRODUCT_ROWS:
            yield here.flatten(0, 2), there.flatten(0, 2)
        else:
            for own, other in zip(here, there, strict=True):
                yield own.flatten(0, 1), other.flatten(0, 1)

    def matrix(self):
        """The sums as (1, d, d), inputs in the order of a weight: channel, row, column."""
        parts = defaultdict(list)
        for total, down, across in self._pieces():
            for row, column in itertools.product(down.firsts, across.firsts):
                first, second = (row, column), (row + down.difference, column + across.difference)
                parts[first, second].append(total)
                if self.plan.symmetric and first != second:
                    parts[second, first].append(total.mT)
        taps, channels = list(itertools.product(*map(range, self.module.kernel_size))), self.module.in_channels
        gram = self.direct.new_empty(channels, len(taps), channels, len(taps))
        of_first = self.direct.new_empty(len(taps), channels, channels)
        for index, first in enumerate(taps):  # so that memory is written in order
            of_first.zero_()
            for block, second in zip(of_first, taps, strict=True):
                for part in parts[first, second]:
                    block += part
            gram[:, index] = of_first.permute(1, 2, 0)
        return gram.view(1, channels * len(taps), -1)

    def _pieces(self):
        """Yield (sum, piece down, piece across) for all pairs of pieces."""
        direct = list(zip(self.direct, self.plan.direct, strict=True))
        for total, pair in direct:
            yield total, *pair
        for values, down in zip(self.rows, self.plan.rows, strict=True):
            sums = minimal_filter(2 * self.plan.taps - 1, self.plan.tile)[2].to(values.device) @ values.flatten(1)
            for across in self.plan.longest:
                if not self.plan.symmetric or _not_mirrored(down, across):
                    total = sums[across.difference + self.plan.taps - 1].view(values.shape[1:])
                    for part, (row, column) in direct:
                        if row == down and column.difference == across.difference:
                            total = total - part
                    yield total, down, across


def _not_mirrored(down, across) -> bool:
    """Whether a piece of a symmetric matrix is to be multiplied: of two opposite differences, one is."""
    return (down.difference, across.difference) >= (0, 0)
