"""Is a file that a user asks for one that the workflow makes?"""

import re

from kdq.errors import UserError, nearest
from kdq.recipe.grammar import Grammar, Recipe
from kdq.recipe.measurement import measured_recipe

FILES = (
    "metrics.json",
    "model.safetensors",
    "model.archive.safetensors",
    "predictions.safetensors",
    "history.csv",
    "sensitivity.csv",
)


def check(target: str, grammar: Grammar, datasets) -> None:
    """Raise UserError, one line with the nearest right spelling, for a cell's file that can't be made.

    Only paths below ``results/`` are looked at; whatever else Snakemake knows (rules, figures) is left to it.
    """
    path = target.rstrip("/")
    parts = path.split("/")
    if parts[0] != "results" or len(parts) < 3:
        return
    _, dataset, seed, *rest = parts
    if dataset not in datasets:
        if re.fullmatch(r"seed=.*", seed):
            choices = ", ".join(datasets)
            raise UserError(
                f"{target}: data set {dataset!r} does not exist, expected one of {choices}{nearest(dataset, datasets)}"
            )
        return
    if seed in ("data", "figures") or parts[-1].startswith("views,"):
        return
    if not re.fullmatch("seed=[0-9]+", seed):
        raise UserError(f"{target}: found {seed!r} after the data set, expected seed=NUMBER, for example seed=0")
    if not rest or rest[-1] not in FILES:
        found = rest[-1] if rest else ""
        recipe = grammar.parse("/".join(rest)) if rest and found.split(",")[0] in grammar.types else None
        if recipe:
            raise UserError(
                f"{target}: names the folder of a recipe, expected a file in it, such as {path}/metrics.json"
            )
        raise UserError(f"{target}: ends in {found!r}, expected one of {', '.join(FILES)}{nearest(found, FILES)}")
    if len(rest) < 2:
        raise UserError(f"{target}: names no recipe, expected results/{dataset}/{seed}/RECIPE/{rest[-1]}")
    recipe = grammar.parse("/".join(rest[:-1]))
    if rest[-1] == "history.csv" and not recipe.last.kind.trains:
        raise UserError(f"{target}: the stage {recipe.last.text!r} does not train and has no history.csv")
    if rest[-1] == "model.archive.safetensors" and not recipe.last.kind.gives_codes:
        raise UserError(f"{target}: the stage {recipe.last.text!r} gives a float model, which has no archive")
    if rest[-1] == "sensitivity.csv":
        _check_measured(target, recipe)


def _check_measured(target: str, recipe: Recipe) -> None:
    if not recipe.last.kind.quantizes:
        raise UserError(f"{target}: the stage {recipe.last.text!r} does not quantize and has no sensitivity.csv")
    if (right := measured_recipe(recipe)) != recipe.path:
        expected = target.replace(f"/{recipe.path}/", f"/{right}/")
        raise UserError(f"{target}: the file is the same for all bits, orders and budgets, expected {expected}")
