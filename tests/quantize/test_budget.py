"""Bits under a budget and the order by cost, from what was measured: equal to trying everything."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.quantize.bits.budget import bits_under_budget, never_rising, storage_bits
from kdq.quantize.bits.sensitivity_table import Measurement
from tests.quantize.small import ORDER

# Weights and steps of the layers of tests/quantize/small.py; each has an error at 2 bits that every bit divides by 4.
LAYERS = {
    "stem": (54, 6, 1.0),
    "wide": (648, 12, 0.9),
    "grouped": (432, 12, 0.2),
    "shortcut": (72, 12, 0.4),
    "fc": (60, 5, 2.0),
}
WEIGHTS = sum(weights for weights, _, _ in LAYERS.values())


def measurements(bits=(2, 3, 4), layers=LAYERS):
    return [
        Measurement(name, weights, steps, b, kl := error * 4.0 ** (2 - b), kl**0.5 - 1, error / b, kl)
        for name, (weights, steps, error) in layers.items()
        for b in bits
    ]


def mean_bits(bits):
    return sum(bits[name] * weights for name, (weights, _, _) in LAYERS.items()) / WEIGHTS


@pytest.mark.parametrize("cost", ["kl", "loss", "accuracy"])
@pytest.mark.parametrize("budget", [2.0, 2.1, 2.5, 3.0, 3.3, 4.0])
def test_equals_trying_all_bits(budget, cost):
    table = {(row.layer, row.bits): row for row in measurements()}

    def total(choice):
        return sum(getattr(table[name, bits], cost) for name, bits in choice.items())

    every = [dict(zip(LAYERS, bits, strict=True)) for bits in product((2, 3, 4), repeat=len(LAYERS))]
    allowed = [choice for choice in every if mean_bits(choice) <= budget]
    found = bits_under_budget(measurements(), budget, cost, "2^b")
    assert mean_bits(found) <= budget
    assert total(found) == pytest.approx(min(map(total, allowed)), rel=1e-12)
    assert list(found) == ORDER


@pytest.mark.parametrize("budget", [2, 3, 4])
def test_a_whole_budget_allows_that_many_bits_everywhere(budget):
    """Where every bit is worth the same in all layers, nothing is better than an even share."""
    alike = {name: (100, steps, 1.0) for name, (_, steps, _) in LAYERS.items()}
    assert set(bits_under_budget(measurements(layers=alike), budget, "kl", "2^b").values()) == {budget}


def test_a_layer_that_costs_more_gets_no_fewer_bits():
    alike = {name: (100, 5, 2.0**index) for index, name in enumerate(LAYERS)}
    for budget in (2.2, 2.6, 3.0, 3.4):
        found = list(bits_under_budget(measurements(layers=alike), budget, "kl", "2^b").values())
        assert found == sorted(found)


def test_fewer_bits_that_happen_to_cost_less_are_not_trusted():
    """At 2 bits the first layer seems to do as well as at 4, at 3 it does not: chance, so both get the same."""
    costs = {"first": (0.0, 0.5, 0.0), "second": (0.6, 0.5, 0.0)}
    rows = [
        Measurement(name, 100, 5, bits, cost, cost, cost, cost)
        for name, of_layer in costs.items()
        for bits, cost in zip((2, 3, 4), of_layer, strict=True)
    ]
    assert bits_under_budget(rows, 4, "loss", "2^b") == {"first": 4, "second": 4}


@given(st.lists(st.floats(-1, 1), min_size=1))
def test_costs_that_fall_are_kept_and_others_raised_as_little_as_it_takes(costs):
    falling = never_rising(costs)
    assert falling == sorted(falling, reverse=True) and falling[-1] == costs[-1]
    assert all(raised >= cost and raised in costs for raised, cost in zip(falling, costs, strict=True))
    assert never_rising(falling) == falling


def test_storage_counts_codes_and_steps():
    row = measurements()[0]
    assert storage_bits(row, "2^b") == 54 * 2 + 6 * 32
    assert storage_bits(row, "paper") == 54 * 3 + 6 * 32


def test_the_published_alphabet_has_a_bit_less_to_spend():
    plain, paper = (bits_under_budget(measurements(), 3.5, "kl", levels) for levels in ("2^b", "paper"))
    assert mean_bits(paper) <= 2.5 < mean_bits(plain) <= 3.5
    assert paper == bits_under_budget(measurements(), 2.5, "kl", "2^b")


def test_a_budget_below_the_fewest_bits_is_one_line():
    with pytest.raises(UserError, match=r"^budget: found 2 bits per weight, expected at least 3$"):
        bits_under_budget(measurements(bits=(3, 4)), 2, "kl", "2^b")


def test_a_cost_that_is_no_number_is_one_line():
    broken = [Measurement("fc", 60, 5, 2, math.nan, 0.0, 0.0, 0.0)]
    with pytest.raises(UserError, match="^budget: kl of the layers: costs: infinite or NaN"):
        bits_under_budget(broken, 4, "kl", "2^b")
