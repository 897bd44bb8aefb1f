"""The bisection over budgets: on accuracies that rise evenly, that don't, and at both ends."""

import math

import pytest

from kdq.compress.search import BUDGETS, smallest_within


def searched(budgets, drops: dict, most: float):
    """Return the budget found and those tried, in their order."""
    tried = []

    def within(budget):
        tried.append(budget)
        return drops[budget] <= most

    return smallest_within(budgets, within), tried


@pytest.mark.parametrize("border", range(len(BUDGETS) + 1))
def test_the_smallest_budget_within_is_found_wherever_it_is(border):
    drops = {budget: 0.5 if place >= border else 1.5 for place, budget in enumerate(BUDGETS)}
    found, tried = searched(BUDGETS, drops, 1)
    assert found == (BUDGETS[border] if border < len(BUDGETS) else None)
    assert len(tried) == len(set(tried)) <= math.ceil(math.log2(len(BUDGETS) + 1))


def test_if_none_is_within_the_largest_was_tried():
    found, tried = searched(BUDGETS, dict.fromkeys(BUDGETS, 3.0), 1)
    assert found is None
    assert max(BUDGETS) in tried


def test_if_all_are_within_the_smallest_is_found():
    assert searched(BUDGETS, dict.fromkeys(BUDGETS, 0.0), 0)[0] == min(BUDGETS)


@pytest.mark.parametrize("exception", BUDGETS)
def test_of_uneven_accuracies_the_smallest_that_was_tried_and_is_within_is_found(exception):
    drops = {budget: 4 - budget for budget in BUDGETS}
    drops[exception] = 0 if drops[exception] > 1 else 5
    found, tried = searched(BUDGETS, drops, 1)
    assert found == min((budget for budget in tried if drops[budget] <= 1), default=None)
    assert not any(budget < found for budget in tried if drops[budget] <= 1)


def test_budgets_rise_and_are_those_of_a_quantizer():
    assert list(BUDGETS) == sorted(set(BUDGETS))
    assert (BUDGETS[0], BUDGETS[-1]) == (2, 8)
