"""What a study's config may say: typed, with defaults, checked before anything is planned.

Every key is described here and nowhere else; ``python -m kdq.study.config`` writes the schema for editors and the page
``docs/config.md`` from it, and a test holds the three together.
"""

import json
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from kdq.data.catalog import CATALOG, DATASETS
from kdq.errors import UserError, nearest, shown
from kdq.recipe.grammar import Grammar, Recipe, expand
from kdq.recipe.kinds import KINDS
from kdq.recipe.stages import check, explain, find_stages
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal, NonNegativeInt, PositiveInt
from kdq.retrain.keys import OWN_DEFAULTS, Continued
from kdq.roots.keys import Shared
from kdq.train.settings import Network, Training

Share = Annotated[float, Field(gt=0, lt=1)]


class Role(Network, Training):
    """Defaults for a network and its training."""


class Data(Base):
    """Where the images come from and how they are split."""

    folder: Annotated[str, Field(description="folder with the files of the CIFAR data sets")] = "data"
    download: Annotated[bool, Field(description="fetch the files of a CIFAR data set where they are missing")] = True
    validation_fraction: Annotated[Share, Field(description="share of the training images held out for validation")] = (
        0.1
    )
    split_seed: Annotated[
        NonNegativeInt, Field(description="seed of that split; the same for all seeds of the grid")
    ] = 0
    test_fraction: Annotated[
        Share, Field(description="share of the images held out for test, where a source has no test part")
    ] = 0.2
    image_folder: Annotated[str, Field(description="for the data set `folder`: images in one sub-folder a class")] = ""
    image_size: Annotated[
        Annotated[int, Field(ge=8, le=512)],
        Field(description="for the data set `folder`: side in pixels after resizing"),
    ] = 32


class Config(Base):
    """A study."""

    datasets: Annotated[
        list[Literal[DATASETS]], Field(min_length=1, description="data sets of the grid: " + ", ".join(DATASETS))
    ]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1, description="seeds of the grid")]
    recipes: Annotated[
        list[str], Field(min_length=1, description="recipes of the grid, brace patterns: `teacher/kd/gpfq,bits={2..8}`")
    ]
    data: Annotated[Data, Field(description="images and splits")] = Data()
    teacher: Annotated[Role, Field(description="network and training of the stage `teacher`")] = Role()
    student: Annotated[Role, Field(description="network and training of every other stage that trains")] = Role()
    retrain: Annotated[Continued, Field(description="training of stages that retrain a quantized model")] = Continued()
    stages: Annotated[
        dict[str, dict], Field(description="for a stage by its name: values for keys that recipes leave out")
    ] = {}
    threads: Annotated[
        PositiveInt, Field(description="threads of a job that trains; the result's last bits depend on it")
    ] = 1


class Study:
    """A checked config: its values, its grammar, its cells."""

    def __init__(self, config: Config, grammar: Grammar, recipes: list[Recipe]):
        self.config, self.grammar, self.recipes = config, grammar, recipes

    def cells(self) -> list[tuple[str, int, Recipe]]:
        """Every cell of the grid: data set, seed, recipe."""
        return [
            (dataset, seed, recipe)
            for dataset in self.config.datasets
            for seed in self.config.seeds
            for recipe in self.recipes
        ]

    def data_keys(self, dataset: str) -> dict:
        """What of the config the file of a data set depends on; where the images lie is no part of it."""
        return {key: getattr(self.config.data, key) for key in CATALOG[dataset].keys}


def read_study(values: dict, package: Path, files=()) -> Study:
    """Check a merged config and expand its grid; raises UserError with file, key, what was found, what was expected.

    ``package`` is the folder ``kdq``, where the stages are; ``files`` are the config files in the order in which they
    were merged, to name the one that a wrong key stands in; ``(name, values)`` stands for what is in no file.
    """
    origin = Origin(files)
    _refuse_unknown(values, Config, (), origin)
    try:
        config = Config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{origin.of(first['loc'])}: {_explain_config(error)}") from None
    # a data set or seed that is named twice is one all the same
    config = config.model_copy(update={key: list(dict.fromkeys(getattr(config, key))) for key in ("datasets", "seeds")})
    types = find_stages(package)
    roles = {role: values.get(role) or {} for role in ("teacher", "student", "retrain")}
    for name, keys in config.stages.items():
        where = f"{origin.of(('stages', name))}: stages.{name}"
        if name not in types:
            raise UserError(
                f"{where}: there is no such stage, expected one of {', '.join(types)}{nearest(name, types)}"
            )
        for key, value in keys.items():  # one at a time, to name the file that this key stands in
            where = f"{origin.of(('stages', name, key))}: stages.{name}"
            check(types[name].keys, {key: value}, where, partial=True)
            if not types[name].kind.has_parent and key in Shared.model_fields:
                raise UserError(
                    f"{where}: {key}: found {shown(value)}, expected it in a recipe: {name},{key}={shown(value)}"
                )
    grammar = Grammar(types, roles, config.stages)
    try:
        recipes = [grammar.parse(text) for text in expand(config.recipes)]
        for stage in {stage.text: stage for recipe in recipes for stage in recipe.stages}.values():
            grammar.resolve(stage)  # what a recipe spells out may conflict with a default of the config
    except UserError as error:
        raise UserError(f"{origin.of(('recipes',))}: {error}") from None
    for stage in {stage.text: stage for recipe in recipes for stage in recipe.stages}.values():
        try:
            grammar.resolve(stage)
        except UserError as error:
            raise UserError(f"{origin.of(('stages', stage.name))}: {error}") from None
    return Study(config, grammar, recipes)


def merged(files) -> dict:
    """The values of config files, later ones over earlier ones, as Snakemake merges them: mappings key by key.

    Raises UserError for a file that can't be read or is no mapping.
    """
    values: dict = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text()) or {}
        except FileNotFoundError:
            raise UserError(f"{file}: no such file, expected a config") from None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"{file}: not readable as YAML ({' '.join(str(error).split())[:200]})") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}: found {shown(content)}, expected keys with values")
        _merge(values, content)
    return values


def _merge(values: dict, over: dict) -> None:
    for key, value in over.items():
        if isinstance(value, dict):
            below = values.get(key)
            values[key] = dict(below) if isinstance(below, dict) else {}
            _merge(values[key], value)
        else:
            values[key] = value


def _refuse_unknown(values: dict, model: type[Base], path: tuple, origin: "Origin") -> None:
    """Raise UserError for the first key that no part of the config has, with the nearest one that it has."""
    for key, value in values.items():
        if key not in model.model_fields:
            where = ".".join([*path, str(key)])
            hint = nearest(key, model.model_fields) or f", expected one of {', '.join(model.model_fields)}"
            raise UserError(f"{origin.of((*path, key))}: unknown key {where!r}{hint}")
        inner = model.model_fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, Base) and isinstance(value, dict):
            _refuse_unknown(value, inner, (*path, key), origin)


def _explain_config(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "missing":
        return f"the key {'.'.join(map(str, first['loc']))!r} is missing, expected {first['loc'][0]}: [...]"
    if first["type"] == "too_short":
        return f"{first['loc'][0]}: found an empty list, expected at least one entry"
    return explain(error)


def typed(value):
    """A value of ``--config`` as YAML means it: inside lists and mappings Snakemake leaves every text a text.

    >>> typed({"seeds": ["0", "1"], "student": {"width": "0.5", "flip": "false"}})
    {'seeds': [0, 1], 'student': {'width': 0.5, 'flip': False}}
    """
    if isinstance(value, dict):
        return {key: typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


class Origin:
    """Which config file a key came from: the last one that has it, as Snakemake merges them."""

    def __init__(self, files):
        self.contents = []
        for file in files:
            if isinstance(file, tuple):
                self.contents.append(file)
                continue
            try:
                self.contents.append((str(file), yaml.safe_load(Path(file).read_text()) or {}))
            except (OSError, ValueError, RecursionError, yaml.YAMLError):
                continue  # Snakemake itself reports a config file that can't be read

    def of(self, path) -> str:
        for name, content in reversed(self.contents):
            for key in path:
                if isinstance(content, dict) and key in content:
                    content = content[key]
                else:
                    break
                if not isinstance(content, dict):
                    return name
            else:
                return name
        return self.contents[-1][0] if self.contents else "config"


def schema() -> str:
    """The JSON schema of a config, for editors."""
    document = Config.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}, indent=2) + "\n"


def documentation(package: Path) -> str:
    """The page that describes every key of a config and every key of a stage."""
    lines = [
        "# The keys of a study",
        "",
        "Written by `make docs` from `kdq/study/config.py` and from the files of the stages; edit those.",
        "",
        "## Config",
        "",
        *_key_table(Config, ("teacher", "student", "retrain")),
        "",
        "## `teacher`, `student`: networks and training",
        "",
        "Every key may also be spelled out in a stage that trains: `hard,epochs=20,width=0.5`.",
        "",
        *_key_table(Role),
        "",
        "## `retrain`: training that goes on from a quantized model",
        "",
        "The keys of training, without those of a network, which is the parent's. What is not set here is as `student`",
        "says; only these have other defaults, whatever it says:",
        "",
        *_key_table(Continued, Continued.model_fields.keys() - set(OWN_DEFAULTS)),
    ]
    for kind in KINDS.values():
        shared = Role.model_fields.keys() if kind.trains else ()
        for stage in (stage for stage in find_stages(package).values() if stage.kind == kind):
            lines += ["", f"## Stage `{stage.name}` ({kind.name})", "", *_key_table(stage.keys, shared)]
    return "\n".join(lines) + "\n"


def _key_table(model: type[Base], leave_out=()) -> list[str]:
    properties = model.model_json_schema()
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    rows += _key_rows(model, properties, "", leave_out)
    return rows


def _key_rows(model: type[Base], document: dict, prefix: str, leave_out) -> list[str]:
    rows = []
    for key, field in model.model_fields.items():
        inner = field.annotation
        if key in leave_out:
            continue
        if isinstance(inner, type) and issubclass(inner, Base):
            rows += _key_rows(inner, inner.model_json_schema(), f"{key}.", ())
            continue
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        rows.append(
            f"| `{prefix}{key}` | {_type_name(document['properties'][key])} | {default} | {field.description} |"
        )
    return rows


def _type_name(entry: dict) -> str:
    """A JSON schema's type in words, with its bounds."""
    if "enum" in entry:
        return ", ".join(f"`{choice}`" for choice in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if "anyOf" in entry:
        return " or ".join(_type_name(choice) for choice in entry["anyOf"])
    if entry.get("type") == "array":
        return f"list of {_type_name(entry['items'])}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {entry[bound]:g}" for bound, sign in signs.items() if bound in entry]
    return " ".join([entry.get("type", "any"), ", ".join(bounds)]).strip()


if __name__ == "__main__":
    home = Path(__file__).resolve().parent
    Path("schemas").mkdir(exist_ok=True)
    Path("schemas/config.schema.json").write_text(schema())
    Path("docs/config.md").write_text(documentation(home))
    sys.stdout.write("schemas/config.schema.json\ndocs/config.md\n")
