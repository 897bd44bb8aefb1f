"""Which file of measurements a stage reads: that of the stage without the keys that are chosen by it."""

from kdq.recipe.grammar import Recipe, Stage, spell

FILE = "sensitivity.csv"


def measured_stage(stage: Stage) -> str:
    """The spelling of the stage whose folder holds the file: ``gpfq,images=64`` for ``gpfq,budget=3,images=64``."""
    left = {key: value for key, value in stage.keys.items() if key not in stage.type.keys.after_measurement}
    return spell(stage.name, left)


def measured_recipe(recipe: Recipe) -> str:
    """The recipe of that stage on the same parent."""
    return f"{recipe.parent.path}/{measured_stage(recipe.last)}"
