"""Allocation: equal to trying everything, monotone in the limit, and no bucket of storage too coarse."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdq.quantize.bits.allocation import allocate

# Whole numbers as costs: their sums are exact, so that equal costs are equal.
choices = st.lists(st.tuples(st.integers(0, 30), st.integers(-5, 20)), min_size=3, max_size=3)
problems = st.lists(choices, min_size=1, max_size=5)


def split(layers):
    sizes, costs = zip(*(zip(*layer, strict=True) for layer in layers), strict=True)
    return sizes, [list(map(float, row)) for row in costs]


def total(table, found):
    return sum(row[choice] for row, choice in zip(table, found, strict=True))


@given(problems, st.integers(0, 150))
def test_equals_trying_every_combination(layers, limit):
    sizes, costs = split(layers)
    every = [(total(costs, found), total(sizes, found)) for found in product(range(3), repeat=len(layers))]
    allowed = [pair for pair in every if pair[1] <= limit]
    if not allowed:
        with pytest.raises(ValueError, match=f"limit: {limit}, expected at least {min(size for _, size in every)}"):
            allocate(sizes, costs, limit)
        return
    found = allocate(sizes, costs, limit)
    assert (total(costs, found), total(sizes, found)) == min(allowed)


@given(problems, st.lists(st.integers(0, 150), min_size=2, max_size=2))
def test_a_larger_limit_never_costs_more(layers, limits):
    sizes, costs = split(layers)
    least = sum(map(min, sizes))
    lower, upper = (total(costs, allocate(sizes, costs, least + limit)) for limit in sorted(limits))
    assert upper <= lower


@given(problems)
def test_at_the_ends_every_layer_decides_alone(layers):
    sizes, costs = split(layers)
    least = allocate(sizes, costs, sum(map(min, sizes)))
    assert total(sizes, least) == sum(map(min, sizes))
    assert total(costs, allocate(sizes, costs, sum(map(max, sizes)))) == sum(map(min, costs))


@given(problems, st.integers(0, 150), st.integers(1, 10**9))
def test_the_unit_of_storage_does_not_matter(layers, limit, unit):
    sizes, costs = split(layers)
    limit += sum(map(min, sizes))
    scaled = [[size * unit for size in row] for row in sizes]
    assert allocate(scaled, costs, limit * unit + unit - 1) == allocate(sizes, costs, limit)


@given(problems, st.integers(0, 150))
def test_a_choice_that_is_larger_and_dearer_is_never_taken(layers, limit):
    sizes, costs = split(layers)
    limit += sum(map(min, sizes))
    worse = [row + (max(row),) for row in sizes], [row + [max(row) + 1] for row in costs]
    assert allocate(*worse, limit) == allocate(sizes, costs, limit)


def test_one_bit_more_than_the_limit_is_too_much():
    """Twenty million weights: a thousandth of a bit a weight would be a bucket of twenty thousand bits."""
    sizes = [[20_000_001 * bits for bits in (2, 3)], [7 * bits for bits in (2, 3)]]
    costs = [[2.0, 0.0], [1.0, 0.0]]
    exactly = 3 * 20_000_001 + 2 * 7
    assert allocate(sizes, costs, exactly) == [1, 0]
    assert allocate(sizes, costs, exactly - 1) == [0, 1]


def test_a_network_of_fifty_layers_stays_small():
    generator = np.random.default_rng(0)
    weights = 16 * generator.integers(100, 150_000, 54)
    costs = np.exp(generator.normal(0, 1.5, (54, 1)) - generator.uniform(1, 1.6, (54, 1)) * np.arange(7))
    sizes = weights[:, None] * np.arange(2, 9)
    found = allocate(sizes, costs, int(3.5 * weights.sum()))
    assert 3.49 < sizes[range(54), found].sum() / weights.sum() <= 3.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_costs_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="costs: infinite or NaN"):
        allocate([[1, 2]], [[0.0, bad]], 2)
