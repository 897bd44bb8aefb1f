"""The search for the smallest budget of bits that costs at most so much accuracy."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

# Mean bits per weight. A step is some 5% of the file up to 4 bits; above, where a step buys little, wider.
BUDGETS = (*(2 + step / 8 for step in range(17)), 4.5, 5, 5.5, 6, 7, 8)


def smallest_within(budgets: Sequence[float], within: Callable[[float], bool]) -> float | None:
    """Return the smallest of rising ``budgets`` that was tried and is ``within``; None if the largest tried is not.

    A bisection: at most log2(n + 1) calls, rounded up. Accuracies of few images do not rise evenly with the budget, so
    a smaller budget that was not tried may be within too. None below one that failed is tried: each further one would
    be another chance to pass by luck alone.

    >>> smallest_within((2, 3, 4, 5, 6, 7, 8), lambda budget: budget > 2.5)
    3
    """
    place = bisect_left(budgets, True, key=within)
    return budgets[place] if place < len(budgets) else None
