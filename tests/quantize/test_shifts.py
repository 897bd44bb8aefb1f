"""Gram matrices from products of shifted images, and the short correlations inside them."""

import pytest
import torch
from torch import nn

from kdq.quantize import shifts
from kdq.quantize.filtering import MOST_PRODUCTS, minimal_filter
from kdq.quantize.patches import patches

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
    ("taps", "padding"), [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 4), (4, 3), (5, 2), (7, 3)]
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


def test_products_of_three_taps():
    """8 pixels of a row cost 12 products for each difference of rows, and the first and the last pixel, which a window
    leaves out, another each."""
    layer = nn.Conv2d(1, 1, 3, padding=1)
    all_rows, rows_of_symmetric = 6 + 7 + 8 + 7 + 6, 8 + 7 + 6
    products = (all_rows + rows_of_symmetric) * (12 + 2)
    assert shifts.multiplications(layer, (8, 8)) == products
    assert shifts.multiplications(nn.Conv2d(3, 1, 3, padding=1), (8, 8)) == 9 * products
    assert shifts.multiplications(layer, (56, 56)) / (2 * 56**2 * 9**2) < 0.08


def test_a_kernel_of_too_many_taps_is_multiplied_as_it_is():
    layer = nn.Conv2d(1, 1, (1, 7), padding=(0, 3))
    pieces = sum(20 - abs(difference) for difference in range(-6, 7))
    assert shifts.multiplications(layer, (1, 20)) == pieces + (pieces + 20) / 2
