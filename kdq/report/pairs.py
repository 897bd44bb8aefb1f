"""The planned contrasts: which models are compared, decided before the test part is looked at.

A model is compared with its control, and with the best of its kind by the validation part; never all with all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdq.recipe.path import keys_of, name_of, parent, stages
from kdq.report.bits import nearest_tenth, without_activations

if TYPE_CHECKING:
    import pandas as pd

Contrast = tuple[str, str, str]  # family, recipe, recipe of the reference

SAME_COMPUTE = (0.9, 1.11)  # of a control's training operations
FAMILIES = {  # by name: what it answers
    "control": "float networks against the one by labels alone: that `hard` of their size with their `epochs`, then "
    "with the most of their keys as recipes spell them; these among each other against the first, which is itself "
    "compared with the first `hard` of all (without one, the first root)",
    "compute": "students against that `hard` of their size whose training took about as many operations, "
    f"{SAME_COMPUTE[0]:.0%} to {SAME_COMPUTE[1]:.0%}",
    "quantization": "quantized models against their float network",
    "networks": "quantized ones by one quantizer at the same bits against that of the network's control",
    "quantizers": "of one network at the same bits against `rtn`",
    "activations": "by one quantizer of one network at the same bits of weights against that with the most bits of "
    "activations",
    "best network": "float networks of one size against the best",
    "best quantized network": "quantized ones of one size by one quantizer at the same bits against the best",
    "best quantizer": "of one network at the same bits against the best",
}


def shares_root(recipe: str) -> bool:
    """Return whether the recipe's root is one model under all seeds, as ``teacher,seed=0`` is."""
    return "seed" in keys_of(stages(recipe)[0])


def baseline(networks) -> str:
    """Return the network that others are compared with: ``hard``, else the first root, unshared roots first."""
    roots = [recipe for recipe in networks if not parent(recipe)]
    return min(roots, key=lambda recipe: (name_of(recipe) != "hard", shares_root(recipe), recipe))


def students(networks) -> list[str]:
    """Return the networks that the figure compares with a control: all but the roots of others, sorted."""
    teachers = {stages(recipe)[0] for recipe in networks if parent(recipe)}
    return sorted(set(networks) - teachers - {baseline(networks)})


def best(models: pd.DataFrame) -> pd.Series:
    """Return the model of the best mean validation accuracy; then least cross entropy, then first path."""
    by = ["validation_top1_mean", "validation_cross_entropy_mean", "recipe"]
    return models.sort_values(by, ascending=[False, True, True]).iloc[0]


def choose(models: pd.DataFrame) -> list[Contrast]:
    """Return the contrasts of one data set, of all ``FAMILIES``; ``models`` are rows of the summary.

    Bits are the same if those of activations do, except in ``activations``, and those of weights agree to a tenth.
    """
    models = models.sort_values("recipe").assign(bits=models.bits.map(nearest_tenth))
    floats, quantized = (models[models.quantizer == "none"], models[models.quantizer != "none"])
    controls = controls_of(floats)
    bits = ["bits", "activation_bits"]
    contrasts = [("control", *pair) for pair in controls.items()]
    contrasts += [("compute", *pair) for pair in at_equal_compute(floats)]
    contrasts += [("quantization", *pair) for pair in quantized[["recipe", "network"]].itertuples(index=False)]
    for _, group in quantized.groupby(["quantizer", *bits]):
        recipes = dict(zip(group.network, group.recipe, strict=True))
        pairs = ((recipe, recipes.get(controls.get(network))) for network, recipe in recipes.items())
        contrasts += [("networks", *pair) for pair in pairs if pair[1]]
    for _, group in quantized.groupby(["network", *bits]):
        rounded = group[group.quantizer.str.fullmatch("rtn(,[^+]*)?")].sort_values("quantizer").recipe.head(1)
        contrasts += [("quantizers", *pair) for reference in rounded for pair in against(group, reference)]
    contrasts += [("activations", *pair) for pair in of_activations(quantized)]
    for family, rows, same in (
        ("best network", floats, ["parameters"]),
        ("best quantized network", quantized, ["parameters", "quantizer", *bits]),
        ("best quantizer", quantized, ["network", *bits]),
    ):
        groups = (group for _, group in rows.groupby(same))
        contrasts += [(family, *pair) for group in groups for pair in against(group, best(group).recipe)]
    known = set(models.recipe)
    return [contrast for contrast in contrasts if contrast[2] in known]


def against(group: pd.DataFrame, reference: str) -> list[tuple[str, str]]:
    """Return the pairs of each other model of a group with the ``reference``."""
    return [(recipe, reference) for recipe in group.recipe if recipe != reference]


def controls_of(floats: pd.DataFrame) -> dict[str, str]:
    """Return for each float network its control, in ``FAMILIES`` that of ``control``; the first of all has none."""
    first, epochs = baseline(floats.recipe), floats.set_index("recipe").epochs.fillna(0)
    controls = {}
    for _, group in floats.groupby("parameters"):
        hard = [recipe for recipe in group.recipe if not parent(recipe) and name_of(recipe) == "hard"]
        hard.sort(key=lambda recipe: (shares_root(recipe), recipe))
        for recipe in group.recipe:
            of_size = hard[0] if recipe in hard else _likest(recipe, hard, epochs) or first
            controls[recipe] = of_size if recipe != of_size else first
    return {recipe: control for recipe, control in controls.items() if recipe != control}


def _likest(recipe: str, others: list[str], epochs: pd.Series) -> str | None:
    """Return the first of the recipes trained for as many epochs, then of fewest other keys in the last stage."""
    keys = keys_of(stages(recipe)[-1]).items()

    def distance(other: str) -> tuple[bool, int]:
        return epochs[other] != epochs[recipe], len(keys ^ keys_of(stages(other)[-1]).items())

    return min(others, key=distance, default=None)


def at_equal_compute(floats: pd.DataFrame) -> list[tuple[str, str]]:
    """Return each student with the ``hard`` of its size whose training took the nearest number of operations.

    Only if that is about as many; none for networks whose operations are not known.
    """
    pairs = []
    floats = floats[floats.training_flops_mean > 0]
    for _, group in floats.groupby("parameters"):
        hard = group[(group.method_name == "hard") & (group.network == group.root)]
        for student in group[group.network != group.root].itertuples():
            ratios = student.training_flops_mean / hard.set_index("recipe").training_flops_mean
            about = ratios[ratios.between(*SAME_COMPUTE)]
            pairs += [(student.recipe, control) for control in abs(about - 1).sort_values().index[:1]]
    return pairs


def of_activations(quantized: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of models that differ in what is done to activations alone: fewer bits against the most."""
    weights = quantized.quantizer.map(without_activations)
    pairs = []
    for _, group in quantized.groupby([quantized.network, weights, quantized.bits.map(nearest_tenth)]):
        most = group.activation_bits == group.activation_bits.max()
        pairs += [(fewer, more) for more in group.recipe[most] for fewer in group.recipe[~most]]
    return pairs
