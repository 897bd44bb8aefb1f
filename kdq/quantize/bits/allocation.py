"""Bits per layer under one budget of storage: a multiple-choice knapsack, solved exactly."""

from collections.abc import Sequence

import numpy as np


def allocate(sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], limit: int) -> list[int]:
    """Return the index of one choice per layer: the least sum of ``costs`` with a sum of ``sizes`` within ``limit``.

    ``sizes[layer][choice]`` are whole numbers, in the unit of ``limit``; ``costs`` finite. Of equal costs the smaller
    size wins, and a tie in both is always broken in the same way. Raises ValueError if even the least sizes sum to
    more than the limit, or if a cost is not finite.

    A dynamic programme over layers: of all choices for the layers so far, keep those that no other beats in both size
    and cost: whatever follows, only they can become the best (Nemhauser and Ullmann, Discrete dynamic
    programming and capital allocation, Management Science 1969). No size is rounded to a bucket: the result is exact.

    >>> allocate([[2, 3, 4], [20, 30, 40]], [[9.0, 3.0, 1.0], [5.0, 2.0, 0.5]], limit=34)
    [2, 1]

    The larger layer at 40 exceeds the limit; at 30 it leaves 4 to the smaller one: a cost of 1 + 2.
    """
    sizes, costs = np.asarray(sizes, dtype=np.int64), np.asarray(costs, dtype=np.float64)
    if not np.isfinite(costs).all():
        raise ValueError("costs: infinite or NaN, expected finite numbers")
    needed = sizes.min(1)[::-1].cumsum()[::-1]  # at the least, by a layer and all that follow
    if needed[0] > limit:
        raise ValueError(f"limit: {limit}, expected at least {needed[0]}, the sum of the least sizes")
    size, cost, steps = np.zeros(1, np.int64), np.zeros(1), []
    for layer, of_others in enumerate([*needed[1:], 0]):
        size, cost, step = _extended(size, cost, sizes[layer], costs[layer], limit - of_others)
        steps.append(step)
    return _traced(steps)


def _extended(size, cost, sizes, costs, limit):
    """Return the states that no other beats after one more layer, and where each came from; sizes rise, costs fall.

    ``size`` and ``cost`` of the states so far, ``sizes`` and ``costs`` of the layer's choices. Where a state came from
    is a pair: the states so far by index, the choices by index.
    """
    new_size, new_cost = np.add.outer(size, sizes).ravel(), np.add.outer(cost, costs).ravel()
    order = np.flatnonzero(new_size <= limit)
    order = order[np.lexsort((new_cost[order], new_size[order]))]
    falling = new_cost[order]
    kept = np.ones(len(order), bool)
    kept[1:] = falling[1:] < np.minimum.accumulate(falling)[:-1]
    order = order[kept]
    return new_size[order], new_cost[order], np.divmod(order, len(sizes))


def _traced(steps) -> list[int]:
    """Return the choices that led to the cheapest state, the last one."""
    chosen, state = [], -1
    for states, choices in reversed(steps):
        chosen.append(int(choices[state]))
        state = states[state]
    return chosen[::-1]
