"""Which models are compared: decided from recipes alone, as many pairs as there are cells, up to a constant factor."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

from kdq.recipe.path import keys_of, name_of, parent, stages
from kdq.report.bits import nearest_tenth, without_activations

if TYPE_CHECKING:
    import pandas as pd

ALL_PAIRS_UP_TO = 16  # models of a group; in a larger one each is compared with the group's first alone


def shares_root(recipe: str) -> bool:
    """Return whether the recipe's root is one model under all seeds, as ``teacher,seed=0`` is."""
    return "seed" in keys_of(stages(recipe)[0])


def baseline(networks) -> str:
    """Return the network that others are compared with: ``hard``, else the first root, unshared roots first."""
    roots = [recipe for recipe in networks if not parent(recipe)]
    return min(roots, key=lambda recipe: (name_of(recipe) != "hard", shares_root(recipe), recipe))


def students(networks) -> list[str]:
    """Return the networks that the figure compares with the baseline: all but the roots of others, sorted."""
    teachers = {stages(recipe)[0] for recipe in networks if parent(recipe)}
    return sorted(set(networks) - teachers - {baseline(networks)})


def of_group(group: list[str]) -> list[tuple[str, str]]:
    """Return the pairs ``(model, reference)`` of a group, the later against the earlier: all, or with the first."""
    if len(group) > ALL_PAIRS_UP_TO:
        return [(model, group[0]) for model in group[1:]]
    return [(model, reference) for reference, model in combinations(group, 2)]


def choose(models: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return ``(family, recipe, reference recipe)`` for every comparison of one data set.

    ``models`` has one row of the table per recipe. The families: ``baseline``, float networks against the baseline;
    ``float``, float networks among themselves; ``networks``, quantized ones of different float networks by the same
    quantizer at the same bits; ``quantizers``, different quantizers of the same float network at the same bits;
    ``activations``, one quantizer of one network at the same bits of weights and different ones of activations. Bits
    are the same if those of activations do, except in the last family, and those of weights agree to a tenth.
    """
    floats = models.recipe[models.quantizer == "none"].tolist()
    first = baseline(floats)
    ordered = sorted(floats, key=lambda recipe: (recipe != first, recipe))
    pairs = [("baseline" if first in pair else "float", *pair) for pair in of_group(ordered)]
    quantized = models[models.quantizer != "none"].assign(bits=lambda rows: rows.bits.map(nearest_tenth))
    for family, same, varied, reference in (
        ("networks", "quantizer", "network", first),
        ("quantizers", "network", "quantizer", "rtn"),
    ):
        for _, group in quantized.groupby([same, "bits", "activation_bits"]):
            recipes = dict(zip(group[varied], group.recipe, strict=True))
            ordered = [recipes[name] for name in sorted(recipes, key=lambda name: (name != reference, name))]
            pairs += [(family, *pair) for pair in of_group(ordered)]
    return [*pairs, *of_activations(quantized)]


def of_activations(quantized: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the pairs of models that differ in what is done to activations alone: fewer bits against more."""
    weights = quantized.quantizer.map(without_activations)
    pairs = []
    for _, group in quantized.groupby([quantized.network, weights, quantized.bits]):
        levels = [rows.recipe for _, rows in group.sort_values("activation_bits").groupby("activation_bits")]
        for more, fewer in combinations(reversed(levels), 2):
            pairs += [("activations", *pair) for pair in product(fewer, more)]
    return pairs
