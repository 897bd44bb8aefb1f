"""Choose the bits of every layer by what each costs alone."""

import itertools
import math

from kdq.errors import UserError
from kdq.quantize.bits.allocation import allocate
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.bits.sensitivity_table import Measurement, by_layer

STEP_BITS, FLOAT_BITS = 32, 32


def storage_bits(row: Measurement, levels: str) -> int:
    """Return the bits that a layer takes: its codes, and its steps in float32.

    The rest of a model file does not depend on the choice: biases, normalisation, the header, and per layer less than
    a byte of padding.
    """
    return row.weights * Alphabet(row.bits, levels).storage_bits + STEP_BITS * row.steps


def bits_under_budget(
    measurements: list[Measurement], budget: float, cost: str, levels: str, float_weights: int = 0
) -> dict[str, int]:
    """Return the bits of each layer, in order of execution, with the least sum of the column ``cost``.

    ``budget`` is the mean over all weights: codes and steps together may take what they take if every weight has that
    many bits, so that a whole number allows that number in all layers. Costs are those of :func:`never_rising`.
    ``float_weights`` are those of layers that stay float: they are in the mean, with 32 bits each. Raises UserError for
    a budget below the least number of bits.
    """
    table = by_layer(measurements)
    rows = [sorted(choices.values(), key=lambda row: row.bits) for choices in table.values()]
    weights, steps = (sum(getattr(choices[0], name) for choices in rows) for name in ("weights", "steps"))
    kept_bits, weights = FLOAT_BITS * float_weights, weights + float_weights
    sizes = [[storage_bits(row, levels) for row in choices] for choices in rows]
    costs = [never_rising([getattr(row, cost) for row in choices]) for choices in rows]
    least = (sum(map(min, sizes)) - STEP_BITS * steps + kept_bits) / weights
    if budget < least:
        why = f": {float_weights:,} of {weights:,} weights stay float, at 32 bits" if float_weights else ""
        raise UserError(f"budget: found {budget} bits per weight, expected at least {least:g}{why}")
    try:
        chosen = allocate(sizes, costs, math.floor(budget * weights) - kept_bits + STEP_BITS * steps)
    except ValueError as error:
        raise UserError(f"budget: {cost} of the layers: {error}") from None
    return {name: choices[index].bits for name, choices, index in zip(table, rows, chosen, strict=True)}


def never_rising(costs: list[float]) -> list[float]:
    """Return costs by rising bits, each at least that of any more bits: loss and accuracy of few images are noisy.

    >>> never_rising([0.5, -0.1, 0.2, 0.1])
    [0.5, 0.2, 0.2, 0.1]
    """
    return list(itertools.accumulate(reversed(costs), max))[::-1]
