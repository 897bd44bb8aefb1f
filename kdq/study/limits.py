"""Where keys meet the data set and the networks of other stages: what can't work is refused before it is planned.

The keys of a single stage are checked by the class in its file. The jobs check the networks themselves, of which only
they have all facts.
"""

from functools import cache

from kdq.data.catalog import CATALOG
from kdq.errors import UserError
from kdq.models import registry
from kdq.recipe.grammar import Grammar, Recipe, Stage
from kdq.recipe.vocabulary import Base, NetworkFacts
from kdq.train.settings import Network

MOST_CELLS = 1_000_000  # planning takes 3 ms and 45 kB for each


def check_cells(grammar: Grammar, config, recipes: list[Recipe]) -> None:
    """Raise UserError for a grid that is too large, or with a recipe that can't work on one of its data sets."""
    count = len(config.datasets) * len(config.seeds) * len(recipes)
    if count > MOST_CELLS:
        raise UserError(f"{count:,} cells (data sets x seeds x recipes), expected at most {MOST_CELLS:,}")
    stages = {stage.text: stage for recipe in recipes for stage in recipe.stages}.values()
    for dataset in config.datasets:
        for stage in stages:
            _check_data(grammar, stage, dataset, config.data)
    for recipe in recipes:
        _check_networks(grammar, recipe)


def check_recipe(grammar: Grammar, recipe: Recipe, dataset: str, data) -> None:
    """Raise UserError if ``recipe`` can't work on ``dataset``; ``data`` is that part of the config."""
    for stage in recipe.stages:
        _check_data(grammar, stage, dataset, data)
    _check_networks(grammar, recipe)


def _check_data(grammar: Grammar, stage: Stage, dataset: str, data) -> None:
    keys, images = grammar.resolve(stage), CATALOG[dataset].images
    side = images.side if images else data.image_size  # the data set `folder`
    most = {"crop": (side // 2, "half the side of an image")}
    most |= dict.fromkeys(("cutout", "resolution"), (side, "the side of an image"))
    if images:
        most["batch_size"] = images.count, "the number of images"
    for key, (limit, meaning) in most.items():
        if keys.get(key, 0) > limit:
            found = f"stage {stage.text!r}: {key}: found {keys[key]}"
            raise UserError(f"{found}, expected at most {limit}, {meaning} of {dataset}")
    channels = images.channels if images else 3
    for key in ("mean", "std"):
        if keys.get(key) and len(keys[key]) != channels:
            found = f"stage {stage.text!r}: {key}: found {len(keys[key])} values"
            raise UserError(f"{found}, expected {channels}, one per channel of {dataset}")


def _check_networks(grammar: Grammar, recipe: Recipe) -> None:
    """Raise UserError if a stage of ``recipe`` needs more of the networks that it works on than they have."""
    for index, stage in enumerate(recipe.stages[1:], 1):
        if not _asks_for_networks(stage.type.keys):  # most do not, and a grid has many recipes
            continue
        keys, networks = grammar.resolve(stage), _networks(grammar, Recipe(recipe.stages[:index]), stage)
        where = f"recipe {recipe.path!r}: {stage.name}"
        for role, facts in networks.items():
            if facts.source == "transformers" and (part := stage.type.keys.reads(keys)):
                raise UserError(
                    f"{where}: reads {part}, and the {role} is of source=transformers, which gives logits alone; "
                    "expected a network of another source or a method that needs none"
                )
        if reason := stage.type.keys.misfit(keys, networks):
            raise UserError(f"{where}: {reason}")


@cache
def _asks_for_networks(keys: type[Base]) -> bool:
    return any(getattr(keys, name).__func__ is not getattr(Base, name).__func__ for name in ("reads", "misfit"))


def _networks(grammar: Grammar, parent: Recipe, stage: Stage) -> dict[str, NetworkFacts]:
    """Return the facts of the networks that ``stage`` works on, by their role."""
    made = {"parent": parent.stages_of_network}
    if stage.kind.makes_network:
        made["student"] = (stage,)
    elif stage.kind.learns_from == "ancestor":
        made["teacher"] = grammar.teacher(parent, stage).stages_of_network
    return {role: _facts(grammar, stages) for role, stages in made.items()}


def _facts(grammar: Grammar, stages: tuple[Stage, ...]) -> NetworkFacts:
    """Return the facts of the network that the first of ``stages`` makes and the later ones change."""
    keys = grammar.resolve(stages[0])
    reshaped = tuple(stage.text for stage in stages if stage.type.keys.reshapes)
    source = keys.get("source", "train")
    description = {key: keys[key] for key in Network.model_fields if key in keys}
    if not description:
        return NetworkFacts(source, {}, reshaped=reshaped)
    architecture = description["architecture"]
    family = registry.family_of(architecture)
    return NetworkFacts(source, description, family.stages, family.blocks(architecture), reshaped)
