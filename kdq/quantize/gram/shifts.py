"""Gram matrices of a convolution at stride 1, from products of shifted images instead of products of patches.

The entry of the Gram matrix for the kernel's taps k and l sums x[p + k] x'[p + l] over the outputs' pixels p, which is
x[r] x'[r + l - k] over a window of image pixels r = p + k. Pairs (k, l) with the same difference sum the same products,
over windows that differ by a row or a column at the border. So each difference is multiplied once, in pieces cut where
a window begins or ends, and a piece is added to every pair whose window holds it: for a kernel of 3 x 3 taps 25
products of images instead of 81, and 13 for the symmetric matrix. Pixels of zero padding are left out, and no patch is
ever written out.

The differences along a row are a short correlation, whose sums come from fewer products still
(:mod:`kdq.quantize.gram.minimal_filter`): for 3 taps 12 products of images for 8 pixels instead of 40. It applies where
the windows of all taps hold a pixel; the few pixels beside are multiplied directly. Nothing is subtracted, so the
diagonal of an input that is always zero is exactly zero.
"""

import itertools
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional

from kdq.quantize.gram.minimal_filter import MOST_PRODUCTS, minimal_filter
from kdq.quantize.gram.patches import borders, pad

# Bytes of a stack of images and its transforms, small enough for a processor's cache; but a product has at least that
# many rows per row of the images, so that reading and writing the sums costs little in comparison.
STACK_BYTES, PRODUCT_ROWS = 2**24, 256


def apply_to(module) -> bool:
    """Return whether a layer is a convolution for which this way is exact and saves anything."""
    return (
        isinstance(module, nn.Conv2d)
        and module.stride == (1, 1)
        and module.groups == 1
        and module.kernel_size != (1, 1)
    )


def multiplications(module, size) -> int:
    """Return the multiplications of both Gram matrices together for an image of ``size`` (rows, columns)."""
    size = _padded(module, size)
    tiles = _tiles(module, size)
    return module.in_channels**2 * sum(_Plan(module, size, tiles, symmetric).products for symmetric in (True, False))


def gram_matrices(module, pairs, same, chunk_bytes):
    """Return (cross, gram) = (X~'X, X~'X~), each (1, d, d) in float64; one tensor if ``same``.

    ``pairs`` yields the inputs of the same samples in both networks, two (M, C, H, W) at a time.
    """
    cross = gram = None
    for analog, quantized in pairs:
        if gram is None:
            size = _padded(module, analog.shape[2:])
            tiles = _tiles(module, size)
            gram = _Sums(module, _Plan(module, size, tiles, symmetric=True))
            cross = None if same else _Sums(module, _Plan(module, size, tiles, symmetric=False))
            images = _images(size, tiles, analog.shape[1], chunk_bytes)
        for x, xq in zip(analog.split(images), quantized.split(images), strict=True):
            xq = _Stack(module, xq, tiles)
            gram.add(xq, xq)
            if cross:
                cross.add(xq, _Stack(module, x, tiles))
    gram = gram.matrix()
    return (cross.matrix() if cross else gram), gram


def _padded(module, size) -> tuple[int, int]:
    return tuple(length + sum(border) for length, border in zip(size, borders(module), strict=True))


def _images(size, tiles, channels, chunk_bytes) -> int:
    """Return the number of images of a stack."""
    row = size[1] + (2 * tiles.products if tiles else 0)
    image_bytes = 8 * channels * size[0] * row
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


def _pieces(size, taps, dilation, zeros, cuts=()) -> list[_Piece]:
    """Return the pieces along one side of ``size`` pixels, cut at ``cuts`` too.

    The products of ``zeros`` = (pixels before, pixels behind) are left out.
    """
    window = size - dilation * (taps - 1)
    pieces = []
    for difference in range(1 - taps, taps):
        shift = difference * dilation
        firsts = range(max(0, -difference), taps - max(0, difference))
        edges = {tap * dilation + end for tap in firsts for end in (0, window)}.union(cuts)
        inside = max(zeros[0], zeros[0] - shift), min(size - zeros[1], size - zeros[1] - shift)
        edges = sorted({min(max(edge, inside[0]), inside[1]) for edge in edges})
        for start, stop in itertools.pairwise(edges):
            holding = tuple(tap for tap in firsts if tap * dilation <= start and stop <= tap * dilation + window)
            if holding:
                pieces.append(_Piece(difference, shift, start, stop, holding))
    return pieces


@dataclass(frozen=True)
class _Tiles:
    """Pixels ``start .. stop`` of a row, which the windows of all its ``taps`` hold, in tiles of ``tile`` pixels."""

    taps: int
    start: int
    stop: int
    tile: int

    @property
    def count(self) -> int:
        return -(-(self.stop - self.start) // self.tile)

    @property
    def reach(self) -> int:
        """Return the number of pixels on either side of a tile that are factors of its products."""
        return self.taps - 1

    @property
    def points(self) -> int:
        """Return the products of a tile for all differences."""
        return self.tile + 2 * self.reach

    @property
    def products(self) -> int:
        """Return the products of a row."""
        return self.count * self.points

    def hold(self, piece) -> bool:
        return self.start <= piece.start and piece.stop <= self.stop

    @property
    def filter(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return minimal_filter(2 * self.taps - 1, self.tile)

    @property
    def pieces(self) -> list[_Piece]:
        """Return the pieces that the tiles replace: for every difference, all their pixels."""
        ranges = {of: range(max(0, -of), self.taps - max(0, of)) for of in range(1 - self.taps, self.taps)}
        return [_Piece(of, of, self.start, self.stop, tuple(firsts)) for of, firsts in ranges.items()]


def _tiles(module, size) -> _Tiles | None:
    """Return the tiles of rows with the fewest products; None if the pieces have no more."""
    taps, (before, behind) = module.kernel_size[1], _zeros(module)[1]
    start, stop = max(before, taps - 1), min(size[1] - behind, size[1] - taps + 1)
    largest = MOST_PRODUCTS - 2 * (taps - 1)
    if module.dilation[1] > 1 or taps == 1 or largest < 1 or start >= stop:
        return None
    best = min((_Tiles(taps, start, stop, tile) for tile in range(1, largest + 1)), key=lambda tiles: tiles.products)
    pieces = _pieces(size[1], taps, 1, (before, behind), (start, stop))
    return best if best.products < sum(piece.length for piece in pieces if best.hold(piece)) else None


def _zeros(module) -> list[tuple[int, int]]:
    """Return the pixels of the border that are zero: [(top, bottom), (left, right)]."""
    return borders(module) if module.padding_mode == "zeros" else [(0, 0), (0, 0)]


class _Plan:
    """The products of images for a Gram matrix, for images of ``size`` with their border.

    ``direct`` has the pairs of a piece down and one across that are multiplied as they are; for each piece down in
    ``tiled`` the ``tiles`` of its rows are multiplied for all differences across. A symmetric matrix needs half.
    """

    def __init__(self, module, size, tiles, symmetric):
        self.tiles, self.symmetric = tiles, symmetric
        zeros = _zeros(module)
        down = _pieces(size[0], module.kernel_size[0], module.dilation[0], zeros[0])
        cuts = (tiles.start, tiles.stop) if tiles else ()
        across = _pieces(size[1], module.kernel_size[1], module.dilation[1], zeros[1], cuts)
        pairs = itertools.product(down, [piece for piece in across if not (tiles and tiles.hold(piece))])
        self.direct = [pair for pair in pairs if not symmetric or _not_mirrored(*pair)]
        self.tiled = [piece for piece in down if tiles and (piece.difference >= 0 or not symmetric)]

    @property
    def products(self) -> int:
        """Return the products of pixels, each of all channels with all channels, for an image."""
        direct = sum(down.length * across.length for down, across in self.direct)
        return direct + sum(down.length * self.tiles.products for down in self.tiled)


class _Stack:
    """Images (M, C, H, W) in the forms that are multiplied, each computed on demand and once."""

    def __init__(self, module, inputs, tiles):
        # (H, W, M, C): a run of pixels in a row is one matrix. Converted and reordered in one pass.
        images = pad(module, inputs.to(module.weight.device)).permute(2, 3, 0, 1)
        self.pixels = images.to(torch.float64, memory_format=torch.contiguous_format).contiguous()
        self.tiles = tiles

    @cached_property
    def once(self) -> torch.Tensor:
        """Return the values of each tile's pixels, the first factor of every product: (points, H, tiles, M, C)."""
        return self._values(0, 0)

    @cached_property
    def around(self) -> torch.Tensor:
        """Return the values of each tile and the pixels beside it, the second factor: (points, H, tiles, M, C)."""
        return self._values(1, self.tiles.reach)

    def _values(self, which, reach) -> torch.Tensor:
        tiles = self.tiles
        held = self.pixels[:, tiles.start - reach : tiles.stop + reach]
        missing = tiles.count * tiles.tile - (tiles.stop - tiles.start)
        filled = functional.pad(held, (0, 0, 0, 0, 0, missing))
        pixels = filled.unfold(1, tiles.tile + 2 * reach, tiles.tile).movedim(-1, 0).contiguous()
        values = tiles.filter[which].to(pixels.device) @ pixels.flatten(1)
        return values.view(tiles.points, *pixels.shape[1:])


class _Sums:
    """The sums of a plan's products, (C, C) each."""

    def __init__(self, module, plan):
        self.module, self.plan = module, plan
        shape, points = (module.in_channels, module.in_channels), plan.tiles.points if plan.tiles else 0
        zeros = module.weight.new_zeros
        self.direct = zeros(len(plan.direct), *shape, dtype=torch.float64)
        self.tiled = zeros(len(plan.tiled), points, *shape, dtype=torch.float64)

    def add(self, left, right) -> None:
        """Add the products of two stacks of images."""
        for total, (down, across) in zip(self.direct, self.plan.direct, strict=True):
            columns = slice(across.start, across.stop)
            shifted = slice(across.start + across.shift, across.stop + across.shift)
            here = left.pixels[down.start : down.stop, columns]
            there = right.pixels[down.start + down.shift : down.stop + down.shift, shifted]
            if here.shape[1] * here.shape[2] < PRODUCT_ROWS:  # short rows all at once, others without a copy
                here, there = here.flatten(0, 1)[None], there.flatten(0, 1)[None]
            for first, second in zip(here, there, strict=True):
                total.addmm_(first.flatten(0, 1).mT, second.flatten(0, 1))
        for total, down in zip(self.tiled, self.plan.tiled, strict=True):
            here = left.once[:, down.start : down.stop].flatten(1, 3)
            there = right.around[:, down.start + down.shift : down.stop + down.shift].flatten(1, 3)
            total.baddbmm_(here.mT, there)

    def matrix(self):
        """Return the sums as (1, d, d), inputs in the order of a weight: channel, row, column."""
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
        for total, pair in zip(self.direct, self.plan.direct, strict=True):
            yield total, *pair
        for values, down in zip(self.tiled, self.plan.tiled, strict=True):
            sums = self.plan.tiles.filter[2].to(values.device) @ values.flatten(1)
            for total, across in zip(sums.view(-1, *values.shape[1:]), self.plan.tiles.pieces, strict=True):
                if not self.plan.symmetric or _not_mirrored(down, across):
                    yield total, down, across


def _not_mirrored(down, across) -> bool:
    """Return whether to multiply a piece of a symmetric matrix: one of two opposite differences."""
    return (down.difference, across.difference) >= (0, 0)
