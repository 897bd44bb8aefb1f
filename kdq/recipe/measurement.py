"""The table of sensitivities that a stage reads: that of the stage without the keys that depend on the table."""

from kdq.recipe.grammar import Recipe, Stage, spell
from kdq.recipe.path import join

FILE = "sensitivity.csv"


def measured_stage(stage: Stage) -> str:
    """Return the stage whose folder holds the file: ``gpfq,images=64`` for ``gpfq,budget=3,images=64``."""
    keys = {key: value for key, value in stage.keys.items() if key not in stage.type.keys.after_measurement}
    return spell(stage.name, keys)


def measured_recipe(recipe: Recipe) -> str:
    """Return the recipe of that stage on the same parent."""
    return join(recipe.parent.path, measured_stage(recipe.last))
