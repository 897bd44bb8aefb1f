"""Bits for each layer under one budget of storage: a knapsack with several choices a layer, solved exactly."""

from collections.abc import Sequence

import numpy as np


def allocate(sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], limit: int) -> list[int]:
    """One choice a layer, as its index: the least sum of ``costs`` where the sum of ``sizes`` is ``limit`` at most.

    ``sizes[layer][choice]`` are whole numbers, in the unit of ``limit``; ``costs`` finite. Of equal costs the smaller
    size wins, and a tie in both is always broken in the same way. Raises ValueError where even the least sizes sum to
    more than the limit, or a cost is not finite.

    A dynamic programme over layers: of all choices for the layers so far those are kept that no other beats in size
    and in cost, since whatever follows, they alone can become the best (Nemhauser and Ullmann, Discrete dynamic
    programming and capital allocation, Management Science 1969). No size is rounded to a bucket: the result is exact.

    >>> allocate([[2, 3, 4], [20, 30, 40]], [[9.0, 3.0, 1.0], [5.0, 2.0, 0.5]], limit=34)
    [2, 1]

    The larger layer at 40 would pass the limit; at 30 it leaves 4 to the smaller one: a cost of 1 + 2.
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
    """The states that no other beats, with one layer more: sizes rise, costs fall; then where each came from.

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
    """The choices that led to the cheapest state, the last one."""
    found, state = [], -1
    for states, choices in reversed(steps):
        found.append(int(choices[state]))
        state = states[state]
    return found[::-1]
