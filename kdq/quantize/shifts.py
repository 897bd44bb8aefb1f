"""Gram matrices of a convolution at vertical stride 1, from products of image rows instead of products of patches.

The entry of the Gram matrix for the kernel's rows k and k' sums x[p + k] x'[p + k'] over the output's rows p, which is
x[r] x'[r + k' - k] over a window of image rows r = p + k. Pairs (k, k') with the same difference sum the same products,
over windows that differ by a row or two at the border. So each difference is multiplied once, in pieces cut where a
window begins or ends, and a piece is added to every pair whose window holds it: for a kernel of 3 rows 5 products
instead of 9, and 3 for the symmetric matrix. Nothing is subtracted. Rows of zero padding are left out, and only the
kernel's columns are written out side by side, a third of the patches' memory.
"""

import itertools

import torch
from torch import nn

from kdq.quantize.patches import borders, pad


def apply_to(module) -> bool:
    """Whether a layer is a convolution for which this way is exact and saves anything."""
    return isinstance(module, nn.Conv2d) and module.stride[0] == 1 and module.groups == 1 and module.kernel_size[0] > 1


def gram_matrices(module, analog, quantized, same, chunk_bytes):
    """(cross, gram) = (X~'X, X~'X~), each (1, d, d) in float64, for inputs (M, C, H, W); one tensor where ``same``."""
    (taps, columns), channels = module.kernel_size, module.in_channels
    shape = taps, taps, channels * columns, channels * columns
    gram = torch.zeros(shape, dtype=torch.float64, device=analog.device)
    cross = gram if same else torch.zeros_like(gram)
    height = analog.shape[2] + sum(borders(module)[0])
    zeros = borders(module)[0] if module.padding_mode == "zeros" else (0, 0)
    pieces = _pieces(height, taps, module.dilation[0], zeros)
    images = max(1, chunk_bytes // (8 * columns * analog[0].numel()))
    for x, xq in zip(analog.split(images), quantized.split(images), strict=True):
        xq = _rows(module, xq)
        _accumulate(gram, xq, xq, pieces, symmetric=True)
        if not same:
            _accumulate(cross, xq, _rows(module, x), pieces, symmetric=False)
    gram = _by_channel(gram, channels)
    return (gram if same else _by_channel(cross, channels)), gram


def _rows(module, inputs):
    """Per row of the padded images everything the kernel's columns see, (H, M * output width, C * kernel width)."""
    padded = pad(module, inputs).permute(2, 0, 3, 1)
    height, samples, width, channels = padded.shape
    columns, dilation, stride = module.kernel_size[1], module.dilation[1], module.stride[1]
    places = (width - dilation * (columns - 1) - 1) // stride + 1
    of_row, of_sample, of_column, of_channel = padded.stride()
    view = padded.as_strided(
        (height, samples, places, channels, columns),
        (of_row, of_sample, stride * of_column, of_channel, dilation * of_column),
    )
    return view.double().reshape(height, samples * places, channels * columns)


def _pieces(height, taps, dilation, zeros) -> list:
    """[(kernel rows k' - k, shift in image rows, start, stop, the k whose windows hold the image rows start .. stop)].

    ``zeros``: the rows of zeros at the top and at the bottom; their products are left out.
    """
    window = height - dilation * (taps - 1)
    pieces = []
    for difference in range(1 - taps, taps):
        shift = difference * dilation
        firsts = range(max(0, -difference), taps - max(0, difference))
        edges = sorted({tap * dilation + end for tap in firsts for end in (0, window)})
        for start, stop in itertools.pairwise(edges):
            holding = [tap for tap in firsts if tap * dilation <= start and stop <= tap * dilation + window]
            start = max(start, zeros[0], zeros[0] - shift)
            stop = min(stop, height - zeros[1], height - zeros[1] - shift)
            if start < stop and holding:
                pieces.append((difference, shift, start, stop, holding))
    return pieces


def _accumulate(total, left, right, pieces, symmetric) -> None:
    """Add the products of two stacks of rows (H, places, width) to total (k, k, width, width)."""
    for difference, shift, start, stop, holding in pieces:
        if symmetric and difference < 0:
            continue
        product = left[start:stop].flatten(0, 1).mT @ right[start + shift : stop + shift].flatten(0, 1)
        for tap in holding:
            total[tap, tap + difference] += product
            if symmetric and difference:
                total[tap + difference, tap] += product.mT


def _by_channel(total, channels):
    """(k, k, C * columns, C * columns) to (1, d, d), inputs in the order of a weight: channel, row, column."""
    taps, width = total.shape[0], total.shape[2]
    total = total.view(taps, taps, channels, width // channels, channels, width // channels)
    return total.permute(2, 0, 3, 4, 1, 5).reshape(1, taps * width, taps * width)
