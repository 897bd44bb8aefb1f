"""The grammar of recipes: the path of a model is the sequence of stages that made it.

``teacher/kd,temperature=2/gpfq,bits=4`` is a teacher, a student distilled from it, that student at 4 bits. A stage is
``name`` or ``name,key=value,...``, keys sorted, numbers in their shortest form, so that one recipe has one path.
"""

import contextlib
import re
from dataclasses import dataclass
from functools import cached_property

import bracex

from kdq.errors import UserError, nearest, shown
from kdq.recipe import path
from kdq.recipe.kinds import Kind, stages_to_float
from kdq.recipe.stages import StageType, check, settle
from kdq.retrain.keys import OWN_DEFAULTS
from kdq.roots.keys import Shared
from kdq.train.settings import Network

EXAMPLE = "gpfq,bits=4"  # a quantizer, for messages
MOST_RECIPES = 100_000  # planning takes 5 minutes and 4.5 GB for as many cells
MOST_LETTERS = 2**28  # of the recipes of one pattern, all of which are made at once
MOST_STAGES = 20  # of a recipe; Snakemake takes a path with more repetitions for an endless one
LONGEST_NAME = 255  # bytes of a folder's name on common file systems
LONGEST_RECIPE = 2048  # bytes; Snakemake's record of an output lies at its path in base64, which may have 4096
CHARACTERS = re.compile(r"[A-Za-z0-9.^_+-]+")  # of a value: none is special to a shell, a path or Snakemake


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe in its canonical spelling, with the keys that it spells out."""

    text: str
    type: StageType
    keys: dict

    @property
    def name(self) -> str:
        return self.type.name

    @property
    def kind(self) -> Kind:
        return self.type.kind


@dataclass(frozen=True)
class Recipe:
    """A sequence of stages, the first a root."""

    stages: tuple[Stage, ...]

    @cached_property
    def path(self) -> str:
        return path.join(*(stage.text for stage in self.stages))

    @property
    def last(self) -> Stage:
        return self.stages[-1]

    @property
    def parent(self) -> "Recipe | None":
        return Recipe(self.stages[:-1]) if len(self.stages) > 1 else None

    @property
    def root(self) -> "Recipe":
        return Recipe(self.stages[:1])

    @property
    def network(self) -> "Recipe":
        """The recipe up to its last float model: what is quantized here, or this recipe."""
        return Recipe(self.stages[: stages_to_float(stage.kind for stage in self.stages)])

    @property
    def has_codes(self) -> bool:
        """Whether its model has quantized layers."""
        return len(self.network.stages) < len(self.stages)

    @property
    def maker(self) -> Stage:
        """The stage that makes the network, whose weights the later ones change."""
        return self.stages_of_network[0]

    @property
    def stages_of_network(self) -> tuple[Stage, ...]:
        """The stage that makes the network, and the later ones, which change it."""
        made = max(index for index, stage in enumerate(self.stages) if stage.kind.makes_network)
        return self.stages[made:]

    @property
    def is_quantized(self) -> bool:
        """Whether a stage after the float network quantizes it."""
        return any(stage.kind.quantizes for stage in self.stages_of_network)

    @property
    def measured(self) -> str:
        """The recipe whose folder has the sensitivities: ``hard/gpfq,images=64`` for ``hard/gpfq,bits=3,images=64``."""
        keys = self.last.type.keys.measurement_keys(self.last.keys)
        return path.join(self.parent.path, spell(self.last.name, keys))

    @property
    def ancestors(self) -> list["Recipe"]:
        """All recipes that this one is built on, the root first, without itself."""
        return [Recipe(self.stages[:count]) for count in range(1, len(self.stages))]


class Grammar:
    """Parser of recipes, for the existing stages and a config's defaults.

    ``defaults`` holds the keys that the config sets by the name of a stage. ``roles`` holds those of several stages:
    ``teacher`` for the root of that name, ``retrain`` for stages of that role, ``student`` for all others that train.
    """

    def __init__(self, types: dict[str, StageType], roles: dict[str, dict], defaults: dict[str, dict]):
        self.types, self.roles, self.defaults = types, roles, defaults
        self._parsed: dict[str, Stage] = {}
        self._recipes: dict[str, Recipe] = {}
        self._resolved: dict[str, dict] = {}

    def names(self, kind: Kind) -> list[str]:
        return [name for name, stage in self.types.items() if stage.kind == kind]

    def parse(self, text: str) -> Recipe:
        """Return the recipe that ``text`` spells; raise UserError with the nearest right spelling."""
        if text not in self._recipes:
            self._recipes[text] = self._parse(text)
        return self._recipes[text]

    def _parse(self, text: str) -> Recipe:
        _check_length(text)
        stages = tuple(self.parse_stage(stage, text) for stage in path.stages(text))
        first = stages[0]
        if first.kind.has_parent:
            roots = [name for name, stage in self.types.items() if not stage.kind.has_parent]
            raise UserError(
                f"recipe {text!r}: begins with {first.text!r} of kind {first.kind.name}, expected a root "
                f"({', '.join(roots)}); did you mean '{roots[-1]}/{text}'?"
            )
        if later := [stage.text for stage in stages[1:] if not stage.kind.has_parent]:
            raise UserError(f"recipe {text!r}: the root {later[0]!r} can only come first")
        recipe = Recipe(stages)
        self._check_parents(recipe)
        return recipe

    def _check_parents(self, recipe: Recipe) -> None:
        """Raise UserError for a stage that needs a quantized parent and has a float one, or the reverse."""
        for index, stage in enumerate(recipe.stages):
            parent = Recipe(recipe.stages[:index])
            if stage.kind.needs_codes and not stage.type.keys.float_parent and not parent.is_quantized:
                rest = Recipe(recipe.stages[index:]).path
                raise UserError(
                    f"recipe {recipe.path!r}: {stage.name} retrains a quantized model, but its parent {parent.path!r} "
                    f"is float; did you mean '{parent.path}/{EXAMPLE}/{rest}'?"
                )
            if not getattr(stage.type.keys, "quantized_parent", True) and parent.has_codes:
                raise UserError(
                    f"recipe {recipe.path!r}: {stage.name} needs a float parent, and {parent.path!r} is quantized; "
                    f"did you mean '{path.join(parent.network.path, stage.text)}'?"
                )

    def parse_stage(self, text: str, recipe: str = "") -> Stage:
        """Return a stage, of ``recipe`` if that is given; raise UserError as :meth:`parse` does."""
        if text not in self._parsed:
            self._parsed[text] = self._parse_stage(text, f"recipe {recipe or text!r}")
        return self._parsed[text]

    def resolve(self, stage: Stage) -> dict:
        """Return all keys that a stage reads, plain values: the defaults of its file, the config's, those spelled out.

        A root's key ``seed`` is left out: it tells which model it is, not how it is made.
        """
        if stage.text not in self._resolved:
            not_read = () if stage.kind.has_parent else Shared.model_fields
            given = {**self.defaults.get(stage.name, {}), **stage.keys}
            given = {key: value for key, value in given.items() if key not in not_read}
            settled = settle(stage.type.keys, self._role(stage), given, f"stage {stage.text!r}")
            self._resolved[stage.text] = {key: value for key, value in settled.items() if key not in not_read}
        return self._resolved[stage.text]

    def teacher(self, parent: Recipe, stage: Stage) -> Recipe:
        """Return the model that ``stage`` learns from as it retrains ``parent``, by its key ``teacher``.

        It is the float ancestor, the root, or the root of that name, whatever the recipe's own.
        """
        match self.resolve(stage).get("teacher"):  # missing where the stage reads no teacher
            case "teacher":
                return self.parse("teacher")
            case "root":
                return parent.root
        return parent.network

    def _role(self, stage: Stage) -> dict:
        """Return the keys that the config sets for the role of this stage."""
        if not stage.kind.role:
            return {}
        if stage.kind.role == "network":
            return self.roles["teacher" if stage.name == "teacher" else "student"]
        not_inherited = {*Network.model_fields, *OWN_DEFAULTS}
        inherited = {key: value for key, value in self.roles["student"].items() if key not in not_inherited}
        return inherited | self.roles["retrain"]

    def _parse_stage(self, text: str, where: str) -> Stage:
        if len(text.encode(errors="replace")) > LONGEST_NAME:
            raise UserError(f"{where}: stage {shown(text)}: {len(text)} letters, expected at most {LONGEST_NAME}")
        name, *pairs = text.split(",")
        if name not in self.types:
            hint = nearest(name, self.types)
            raise UserError(f"{where}: stage {name!r} does not exist, expected one of {', '.join(self.types)}{hint}")
        spelled = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or not key or not value:
                raise UserError(f"{where}: stage {text!r}: found {pair!r}, expected key=value")
            if key in spelled:
                raise UserError(f"{where}: stage {text!r}: the key {key!r} is given twice")
            spelled[key] = _read_value(value)
        keys = check(self.types[name].keys, spelled, f"{where}: stage {name!r}", partial=True)
        canonical = spell(name, keys)
        if text != canonical:
            raise UserError(f"{where}: stage {text!r} is spelled {canonical!r}")
        for key, value in keys.items():
            if not CHARACTERS.fullmatch(_spell_value(value)):
                raise UserError(f"{where}: {key}: found {value!r}, in a recipe expected letters, digits, . ^ _ + or -")
        return Stage(text, self.types[name], keys)


def _check_length(recipe: str) -> None:
    """Raise UserError for a recipe of too many stages or whose path is too long for a file system."""
    if (size := len(recipe.encode(errors="replace"))) > LONGEST_RECIPE:
        raise UserError(f"recipe {shown(recipe)}: {size:,} bytes, expected at most {LONGEST_RECIPE:,}")
    if (count := len(path.stages(recipe))) > MOST_STAGES:
        raise UserError(f"recipe {shown(recipe)}: {count} stages, expected at most {MOST_STAGES}")


def spell(name: str, keys: dict) -> str:
    """Return the canonical spelling of a stage."""
    return ",".join([name, *(f"{key}={_spell_value(value)}" for key, value in sorted(keys.items()))])


def _spell_value(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    return str(value)


def _read_value(text: str):
    """Return a number, a truth value or a word; the key's type decides later whether it fits."""
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def expand(patterns: list[str]) -> list[str]:
    """Return the recipes of brace patterns in order, each once: ``{a,b}/c,bits={2..4}`` gives six.

    Raise UserError for a pattern that gives none, too many, or one that is too long, before they fill the memory.
    """
    recipes = {}
    for pattern in patterns:
        where, limit = f"recipes: {shown(pattern)}", min(MOST_RECIPES, MOST_LETTERS // (len(pattern) + 1))
        empty = True
        try:
            for recipe in bracex.iexpand(pattern, limit=limit):
                _check_length(recipe)
                recipes[recipe], empty = None, False
        except bracex.ExpansionLimitException:
            raise UserError(f"{where} gives more than {limit:,} recipes") from None
        except RecursionError:
            raise UserError(f"{where} has too many open braces") from None
        if empty:
            raise UserError(f"recipes: found {shown(pattern)}, expected a recipe such as 'teacher/kd'")
        if len(recipes) > MOST_RECIPES:
            raise UserError(f"recipes: the patterns up to {shown(pattern)} give more than {MOST_RECIPES:,} recipes")
    return list(recipes)
