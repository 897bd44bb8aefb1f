"""Minimal filtering (Toom-Cook, Winograd): the sums of a short correlation with fewer products than terms.

F(m, n): m sums y[j] = sum over i < n of g[i] d[i + j] from m + n - 1 products instead of m n. It is the transpose of
multiplying two polynomials, of m and n coefficients, by their values at m + n - 1 points.

S. Winograd, Arithmetic Complexity of Computations, SIAM 1980; for convolutions Lavin and Gray, arXiv:1509.09308.
"""

from fractions import Fraction
from functools import cache

import torch

# Small numbers and their reciprocals, which keep rounding errors small; infinity is the last point of every set.
POINTS = tuple(Fraction(point) for point in ("0", "1", "-1", "2", "-2", "1/2", "-1/2", "3/2", "-3/2", "2/3", "-2/3"))
MOST_PRODUCTS = len(POINTS) + 1


@cache
def minimal_filter(sums: int, terms: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (a, b, c) with y = c ((a g) * (b d)), for p = sums + terms - 1 products, at most ``MOST_PRODUCTS``.

    a is (p, terms), b (p, p) and c (sums, p), float64: worked out in fractions and rounded once.
    """
    products = sums + terms - 1
    if products > MOST_PRODUCTS:
        raise ValueError(f"F({sums}, {terms}) needs {products} products; there are points for {MOST_PRODUCTS}")
    inverse = _inverse(_values(products, products))
    return _tensor(_values(products, terms)), _tensor(inverse).mT.contiguous(), _tensor(_values(products, sums)).mT


def _values(points, coefficients) -> list[list[Fraction]]:
    """Return the matrix from a polynomial's coefficients to its values at so many points, the last of them infinity."""
    finite = [[point**power for power in range(coefficients)] for point in POINTS[: points - 1]]
    return [*finite, [Fraction(power == coefficients - 1) for power in range(coefficients)]]


def _inverse(matrix) -> list[list[Fraction]]:
    """Return the exact inverse, by elimination."""
    size = len(matrix)
    rows = [[*row, *(Fraction(index == column) for column in range(size))] for index, row in enumerate(matrix)]
    for index in range(size):
        pivot = next(row for row in range(index, size) if rows[row][index])
        rows[index], rows[pivot] = rows[pivot], rows[index]
        rows[index] = [value / rows[index][index] for value in rows[index]]
        for row in range(size):
            if row != index and rows[row][index]:
                factor = rows[row][index]
                rows[row] = [value - factor * pivot for value, pivot in zip(rows[row], rows[index], strict=True)]
    return [row[size:] for row in rows]


def _tensor(matrix) -> torch.Tensor:
    return torch.tensor([[float(value) for value in row] for row in matrix], dtype=torch.float64)
