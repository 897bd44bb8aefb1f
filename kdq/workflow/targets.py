"""The check of requested files: whether the workflow makes them."""

import os

from kdq.errors import UserError, nearest
from kdq.recipe.grammar import Grammar
from kdq.recipe.path import RESULTS, SEED, SPLIT, below_seed, data_file, name_of
from kdq.study.limits import check_recipe
from kdq.study.products import entry_of, names_of_cells


def check_word(word: str, rules) -> None:
    """Raise UserError for a word that can only be a rule, but is none of ``rules``: Snakemake may take no notice."""
    if "/" not in word and word not in rules and not os.path.exists(word):
        raise UserError(f"{word}: is neither a rule nor a file of the workflow{nearest(word, rules)}")


def check(target: str, grammar: Grammar, datasets, data=None) -> None:
    """Raise UserError, one line with the nearest right spelling, for a cell's file that can't be made.

    With ``data``, that part of the config, also for a recipe that does not fit the data set.

    Only paths below ``results/`` are checked; all else (figures, data) is left to Snakemake.
    """
    path = os.path.relpath(target)
    parts = path.split("/")
    if parts[0] != RESULTS or len(parts) < 3:
        return
    if os.path.isabs(target):
        raise UserError(f"{target}: found an absolute path, expected {path}")
    _, dataset, seed, *rest = parts
    if dataset not in datasets:
        if seed.startswith("seed="):
            choices = ", ".join(datasets)
            raise UserError(
                f"{target}: data set {dataset!r} does not exist, expected one of {choices}{nearest(dataset, datasets)}"
            )
        return
    if seed == "data" and len(rest) == 1 and not SPLIT.fullmatch(rest[0]):
        raise UserError(f"{target}: ends in {rest[0]!r}, expected for example {data_file(dataset, 0)}")
    if seed in ("data", "figures"):
        return
    if not SEED.fullmatch(seed):
        raise UserError(f"{target}: found {seed!r} after the data set, expected seed=NUMBER, for example seed=0")
    if len(seed) > 30 or int(seed[5:]) >= 2**63:  # int() refuses thousands of digits
        raise UserError(f"{target}: found {seed}, expected a seed below 2^63")
    rest, name = below_seed(rest)
    if not (entry := entry_of(name)):
        _refuse_name(target, "/".join([*rest, name]), name, grammar)
    if not rest:
        raise UserError(f"{target}: names no recipe, expected {RESULTS}/{dataset}/{seed}/RECIPE/{name}")
    recipe = grammar.parse("/".join(rest))
    if data:
        check_recipe(grammar, recipe, dataset, data)
    if reason := entry.refusal(recipe, name, grammar):
        raise UserError(f"{target}: {reason}")


def _refuse_name(target: str, recipe: str, name: str, grammar: Grammar) -> None:
    """Raise UserError for a target that ends in no file of a model."""
    if name_of(name) in grammar.types:
        grammar.parse(recipe)
        raise UserError(
            f"{target}: names the folder of a recipe, expected a file in it, such as {target.rstrip('/')}/metrics.json"
        )
    names = names_of_cells()
    raise UserError(f"{target}: ends in {name!r}, expected one of {', '.join(names)}{nearest(name, names)}")
