"""Gram matrices from products of shifted images, and the short correlations inside them."""

import pytest
import torch
from torch import nn

from kdq.quantize.gram import shifts
from kdq.quantize.gram.minimal_filter import MOST_PRODUCTS, minimal_filter
from kdq.quantize.gram.patches import patches

SHORT = [(sums, terms) for sums in range(1, 12) for terms in range(1, MOST_PRODUCTS - sums + 2)]


@pytest.mark.parametrize(("sums", "terms"), SHORT)
def test_a_short_correlation_is_its_sums(sums, terms):
    generator = torch.Generator().manual_seed(0)
    once = torch.rand(terms, generator=generator, dtype=torch.float64)
    around = torch.rand(sums + terms - 1, generator=generator, dtype=torch.float64)
    a, b, c = minimal_filter(sums, terms)
    assert len(a) == len(b) == c.shape[1] == sums + terms - 1
    expected = around.unfold(0, terms, 1) @ once
    assert torch.allclose(c @ ((a @ once) * (b @ around)), expected, rtol=1e-11)


def test_more_products_than_there_are_points():
    with pytest.raises(ValueError, match=r"F\(9, 5\) needs 13"):
        minimal_filter(9, 5)


def of_patches(layer, analog, quantized):
    x, xq = (patches(layer, inputs).double().flatten(3).flatten(0, 2) for inputs in (analog, quantized))
    return xq.mT @ x, xq.mT @ xq


@pytest.mark.parametrize("width", range(1, 21))
@pytest.mark.parametrize(
    ("taps", "padding"), [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 4), (4, 3), (5, 2), (6, 2), (7, 3)]
)
def test_rows_of_any_length(width, taps, padding):
    """One tile or several, with and without a remainder, and rows too short for a tile to pay."""
    if width + 2 * padding < taps:
        pytest.skip("no output")
    generator = torch.Generator().manual_seed(width)
    analog = torch.rand(3, 4, taps, width, generator=generator)
    quantized = analog + 0.1 * torch.rand(analog.shape, generator=generator)
    layer = nn.Conv2d(4, 1, taps, padding=padding)
    found = shifts.gram_matrices(layer, [(analog, quantized)], False, 2**26)
    for matrix, expected in zip(found, of_patches(layer, analog, quantized), strict=True):
        assert torch.allclose(matrix[0], expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("width", [4, 7, 16, 32])
def test_an_input_that_is_always_zero_has_a_diagonal_of_zero(width, side):
    """Of a channel that fires at one border alone, three taps see nothing: there is nothing to divide by."""
    inputs = torch.rand(5, 4, 6, width, generator=torch.Generator().manual_seed(width))
    inputs[:, 2] = 0
    inputs[:, 2, :, 0 if side == "left" else -1] = 10.0
    layer = nn.Conv2d(4, 1, 3, padding=1)
    _, gram = shifts.gram_matrices(layer, [(inputs + 1, inputs)], False, 2**26)
    expected = of_patches(layer, inputs + 1, inputs)[1].diag()
    assert (expected == 0).sum() == 3
    assert (gram[0].diag() == 0).equal(expected == 0)


def test_large_borders_leave_what_is_small_exact():
    """A channel's first column is a million times as large: the taps that do not see it keep their digits."""
    inputs = torch.rand(5, 3, 6, 16, generator=torch.Generator().manual_seed(0))
    inputs[:, 1, :, 0] *= 10**6
    layer = nn.Conv2d(3, 1, 3, padding=1)
    _, gram = shifts.gram_matrices(layer, [(inputs, inputs)], True, 2**26)
    expected = of_patches(layer, inputs, inputs)[1]
    length = expected.diag().sqrt()
    assert ((gram[0] - expected).abs() / torch.outer(length, length)).max() < 1e-8


@pytest.mark.parametrize("mode", ["circular", "replicate", "reflect"])
@pytest.mark.parametrize("stack_bytes", [1, 2**12, 2**24])
def test_borders_that_are_not_zero_in_stacks_of_any_size(mode, stack_bytes, monkeypatch):
    monkeypatch.setattr(shifts, "STACK_BYTES", stack_bytes)
    monkeypatch.setattr(shifts, "PRODUCT_ROWS", 1)
    generator = torch.Generator().manual_seed(2)
    pairs = [torch.rand(2, samples, 4, 9, 13, generator=generator).unbind() for samples in (5, 1)]
    layer = nn.Conv2d(4, 1, (2, 3), padding=(1, 2), padding_mode=mode)
    found = shifts.gram_matrices(layer, pairs, False, 2**26)
    of_pairs = zip(*(of_patches(layer, *pair) for pair in pairs), strict=True)
    for matrix, expected in zip(found, map(sum, of_pairs), strict=True):
        assert torch.allclose(matrix[0], expected, rtol=1e-10)


def test_products_of_three_taps():
    """6 of 8 pixels are held by all windows and cost 10 products for each difference of rows; the first one is
    multiplied for the three differences to the right, and the last one for the three to the left."""
    layer = nn.Conv2d(1, 1, 3, padding=1)
    whole = (6 + 7 + 8 + 7 + 6) * (10 + 3 + 3)
    symmetric = (7 + 6) * (10 + 3 + 3) + 8 * (10 + 3 + 1)
    assert shifts.multiplications(layer, (8, 8)) == whole + symmetric
    assert shifts.multiplications(nn.Conv2d(3, 1, 3, padding=1), (8, 8)) == 9 * (whole + symmetric)
    assert shifts.multiplications(layer, (56, 56)) / (2 * 56**2 * 9**2) < 0.08


def test_a_kernel_of_too_many_taps_is_multiplied_as_it_is():
    layer = nn.Conv2d(1, 1, (1, 7), padding=(0, 3))
    pieces = sum(20 - abs(difference) for difference in range(-6, 7))
    assert shifts.multiplications(layer, (1, 20)) == pieces + (pieces + 20) / 2
