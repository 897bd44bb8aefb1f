"""The config of a study: typed keys with defaults, checked before anything is planned.

Every key is described here and nowhere else: ``kdq/study/docs.py`` writes the schema for editors and the page
``docs/config.md`` from it.
"""

import itertools
from pathlib import Path

from pydantic import AfterValidator, ValidationError

from kdq.data.catalog import CATALOG
from kdq.errors import UserError, nearest, shown
from kdq.recipe.grammar import Grammar, Recipe, expand
from kdq.recipe.stages import StageType, check, explain, find_stages
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal, Seed
from kdq.retrain.keys import Continued
from kdq.roots.keys import Shared
from kdq.roots.sources.keys import path_of_folder
from kdq.study.files import source_of, study_name
from kdq.study.limits import check_cells
from kdq.study.strict_yaml import read_file, read_word
from kdq.train.settings import Network, Training

Share = Annotated[float, Field(ge=0.001, le=0.9)]
Folder = Annotated[str, Field(max_length=4000), AfterValidator(path_of_folder)]


class Role(Network, Training):
    """Defaults for a network and its training."""


class Data(Base):
    """Where the images come from and how they are split."""

    folder: Folder = Field("data", description="folder with the files of the CIFAR data sets")
    download: bool = Field(True, description="download missing files of a CIFAR data set")
    validation_fraction: Share = Field(0.1, description="share of the training images held out for validation")
    split_seed: Seed = Field(0, description="seed of that split; the same for all seeds of the grid")
    test_fraction: Share = Field(0.2, description="share of the images held out for test, if a source has no test part")
    image_folder: Folder = Field("", description="for the data set `folder`: images in one sub-folder per class")
    image_size: int = Field(32, ge=8, le=512, description="for the data set `folder`: side in pixels after resizing")
    resident: Literal["auto", "true", "false"] = Field(
        "auto",
        description="whether a training has its images on the device: `true`; `false`: they stay in their file and are "
        "read batch by batch; `auto`: on the device if they take at most half of its free memory. The bytes of the "
        "result are the same",
    )


class Config(Base):
    """A study."""

    datasets: list[Literal[tuple(CATALOG)]] = Field(
        min_length=1, description=f"data sets of the grid: {', '.join(CATALOG)}"
    )
    seeds: list[Seed] = Field(min_length=1, description="seeds of the grid")
    recipes: list[str] = Field(
        min_length=1, description="recipes of the grid, brace patterns: `teacher/kd/gpfq,bits={2..8}`"
    )
    name: str = Field(
        "default",
        pattern=r"^\w[\w.+-]*$",
        max_length=100,
        description="folder of its tables and figures, `results/studies/<name>/`; if not set: the names of the config "
        "files, joined by `+`, and `default` for `config.yaml`",
    )
    data: Data = Field(Data(), description="images and splits")
    teacher: Role = Field(Role(), description="network and training of the stage `teacher`")
    student: Role = Field(Role(), description="network and training of every other stage that trains")
    retrain: Continued = Field(Continued(), description="training of stages that retrain a quantized model")
    stages: dict[str, dict] = Field({}, description="for a stage by its name: values for keys that recipes leave out")
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="threads of a job; the last bits of what it trains or quantizes depend on them, so another number "
        "makes these models again, and a job takes as many even if `--cores` is less",
    )
    latency: bool = Field(
        False,
        description="measure how fast the ONNX file of every model in the tables runs, on this processor: those of the "
        "first seed, since weights do not matter",
    )
    onnx_input: Literal["float32_nchw", "uint8_nhwc"] = Field(
        "float32_nchw",
        description="images that an ONNX file takes: `float32_nchw` in [0, 1], or `uint8_nhwc` in 0..255, channels "
        "last, as cameras give",
    )


class Study:
    """A checked config: its values, its grammar, its cells; ``source`` is what its tables tell of it."""

    def __init__(self, config: Config, grammar: Grammar, recipes: list[Recipe], source: dict):
        self.config, self.grammar, self.recipes, self.source = config, grammar, recipes, source

    @property
    def name(self) -> str:
        """The name of the folder of its tables and figures."""
        return self.config.name

    def cells(self) -> list[tuple[str, int, Recipe]]:
        """Return data set, seed and recipe of every cell of the grid."""
        return list(itertools.product(self.config.datasets, self.config.seeds, self.recipes))

    def data_keys(self, dataset: str) -> dict:
        """Return the keys of the config that a data file depends on, which the location of the images is not."""
        return {key: getattr(self.config.data, key) for key in CATALOG[dataset].keys}


def read_study(values: dict, package: Path, files=()) -> Study:
    """Check a merged config and expand its grid; raise UserError with file, key, value found and value expected.

    ``package`` is the folder ``kdq`` with the stages; ``files`` are the config files in the order of merging, to name
    the one with a wrong key; ``(name, values)`` is a source that is no file.
    """
    origin = Origin(files)
    named = [str(file) for file in files if not isinstance(file, tuple)]
    for content in (values, *(content for _, content in origin.contents)):  # Snakemake consumes keys of its templates
        _refuse_unknown(content, Config, (), origin)
    try:
        config = Config(**{"name": study_name(named), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{origin.of(first['loc'])}: {_explain_config(error)}") from None
    # a data set or seed that is listed twice counts once
    config = config.model_copy(update={key: list(dict.fromkeys(getattr(config, key))) for key in ("datasets", "seeds")})
    types = find_stages(package)
    _check_stages(config.stages, types, origin)
    roles = {role: values.get(role) or {} for role in ("teacher", "student", "retrain")}
    grammar = Grammar(types, roles, config.stages)
    try:
        recipes = [grammar.parse(text) for text in expand(config.recipes)]
        for stage in {stage.text: stage for recipe in recipes for stage in recipe.stages}.values():
            grammar.resolve(stage)  # a recipe may conflict with a default of the config
        check_cells(grammar, config, recipes)
    except UserError as error:
        raise UserError(f"{origin.of(('recipes',))}: {error}") from None
    return Study(config, grammar, recipes, source_of(named, values))


def _check_stages(stages: dict[str, dict], types: dict[str, StageType], origin: "Origin") -> None:
    """Raise UserError for the first wrong name, key or value among the defaults of stages."""
    for name, keys in stages.items():
        where = f"{origin.of(('stages', name))}: stages.{name}"
        if name not in types:
            raise UserError(
                f"{where}: there is no such stage, expected one of {', '.join(types)}{nearest(name, types)}"
            )
        for key, value in keys.items():  # one at a time, to name the file of this key
            where = f"{origin.of(('stages', name, key))}: stages.{name}"
            check(types[name].keys, {key: value}, where, partial=True)
            if not types[name].kind.has_parent and key in Shared.model_fields:
                raise UserError(
                    f"{where}: {key}: found {shown(value)}, expected it in a recipe: {name},{key}={shown(value)}"
                )


def merged(files) -> dict:
    """Return the values of config files merged as Snakemake does: later over earlier, mappings key by key.

    ``(name, values)`` is a source that is no file. Raise UserError for a file that can't be read or is no mapping.
    """
    values: dict = {}
    for file in files:
        _merge(values, file[1] if isinstance(file, tuple) else read_file(file))
    return values


def _merge(values: dict, over: dict) -> dict:
    for key, value in over.items():
        if isinstance(value, dict):
            below = values.get(key)
            values[key] = _merge(dict(below) if isinstance(below, dict) else {}, value)
        else:
            values[key] = value
    return values


def _refuse_unknown(values: dict, model: type[Base], path: tuple, origin: "Origin") -> None:
    """Raise UserError for the first unknown key, with the nearest known one."""
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
        key = ".".join(map(str, first["loc"]))
        return (
            f"the key {key!r} is missing, expected {first['loc'][0]}: [...]; a file that only changes a study is named "
            "after it: --configfile STUDY FILE"
        )
    if first["type"] == "too_short":
        return f"{first['loc'][0]}: found an empty list, expected at least one entry"
    if first["loc"] == ("name",) and first["type"] in ("string_pattern_mismatch", "string_too_long"):
        return f"name: found {shown(first['input'])}, expected at most 100 letters, digits and any of ._+-"
    return explain(error)


def typed(value):
    """Return a value of ``--config`` as YAML reads it: in lists and mappings Snakemake leaves every value a text.

    Raise UserError for a text that has two meanings, see :mod:`kdq.study.strict_yaml`.

    >>> typed({"seeds": ["0", "1"], "student": {"width": "0.5", "flip": "false"}})
    {'seeds': [0, 1], 'student': {'width': 0.5, 'flip': False}}
    """
    if isinstance(value, dict):
        return {key: typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    if not isinstance(value, str):
        return value
    return read_word(value, "--config")


class Origin:
    """The config file that a key came from: the last one that has it, as Snakemake merges them."""

    def __init__(self, files):
        # a file that only Snakemake's own, laxer reading accepts ends here
        self.contents = [file if isinstance(file, tuple) else (str(file), read_file(file)) for file in files]

    def of(self, path) -> str:
        """Return the name of the source of the key that ``path``, the keys above it and its own, leads to."""
        for name, content in reversed(self.contents):
            for key in path:
                if not isinstance(content, dict):  # a value in the place of the keys
                    return name
                if key not in content:
                    break
                content = content[key]
            else:
                return name
        return self.contents[-1][0] if self.contents else "config"
