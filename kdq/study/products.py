"""The files of the workflow, one entry per product: their names, the models that have them, and what makes them.

A product is what one job makes: files that are made together. The check of targets, ``verify`` and the rule ``all``
read these entries, and a test holds the rules to them. A new file per model is a rule, a script and an entry in
``OF_CELLS``.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath

from kdq.data.catalog import CATALOG
from kdq.data.folder_digest import folder_digest
from kdq.deploy import exportable
from kdq.errors import UserError
from kdq.models import registry
from kdq.models.libraries import made_with
from kdq.provenance import formats
from kdq.provenance.fingerprint import Fingerprints
from kdq.recipe.grammar import Grammar, Recipe, spell
from kdq.recipe.path import (
    HUB,
    SEED,
    SPLIT,
    STUDIES,
    Cell,
    below_seed,
    data_file,
    figure_file,
    study_folder,
    table_file,
)
from kdq.report.contents import Contents
from kdq.report.figures import FIGURES
from kdq.report.jobs import TABLES, ReportJobs, Table
from kdq.roots import keys as roots
from kdq.study.config import Study

MODEL, METRICS, PREDICTIONS = "model.safetensors", "metrics.json", "predictions.safetensors"
SENSITIVITY = "sensitivity.csv"
ONNX, ONNX_RECORD, LATENCY = "model.onnx", "model.onnx.json", "latency.json"
GIVEN_AWAY = ("README.md", ONNX, MODEL, "config.json", "preprocessor_config.json", "LICENSE")
TABLE_NAMES = tuple(name for table in TABLES.values() for name in table.names)
FIGURE_FORMS = {"json": formats.RECORD, "png": formats.PLAIN, "svg": formats.PLAIN}


class Foreign(UserError):
    """A path that no job of the workflow makes."""


class OfAnotherStudy(Foreign):
    """A path among the tables and figures of another study."""


@dataclass(frozen=True)
class Place:
    """A model of a study: its cell, and the recipe of the cell as parsed."""

    study: Study
    cell: Cell
    recipe: Recipe

    @property
    def keys(self) -> dict:
        """The resolved keys of the last stage."""
        return self.study.grammar.resolve(self.recipe.last)

    def of(self, recipe: Recipe, name: str) -> str:
        """Return the path of another model's file under the same data set and seed."""
        return self.cell.with_recipe(recipe.path).path(name)


def _views(place: Place) -> str:
    if not place.keys["teacher_cache"]:
        return ""
    keys = {key: place.keys[key] for key in ("crop", "flip", "precision")}
    return place.of(place.recipe.parent, f"{spell('views', keys)}.safetensors")


def _ancestor(place: Place) -> str:
    needed = place.keys.get("start") == "float" and place.recipe.parent.has_codes
    return place.of(place.recipe.network, MODEL) if needed else ""


def _sensitivity(place: Place) -> str:
    measured = place.recipe.last.type.keys.needs_measurement(place.keys)
    return place.cell.with_recipe(place.recipe.measured).path(SENSITIVITY) if measured else ""


def _model(place: Place) -> str:
    return place.cell.path(MODEL)


def _of_float(name: str) -> Callable[[Place], str]:
    """Return the function that gives the file ``name`` of the float network that a place's model was made from."""
    return lambda place: "" if place.recipe.network == place.recipe else place.of(place.recipe.network, name)


def _of_root(name: str) -> Callable[[Place], str]:
    """Return the function that gives the file ``name`` of the root that a place's model was made from."""
    return lambda place: "" if place.recipe.root == place.recipe else place.of(place.recipe.root, name)


def _latency(place: Place) -> str:
    """Return the path of the model's times if the study has them or they are there: a folder does without."""
    path = place.cell.path(LATENCY)
    return path if place.study.config.latency or os.path.exists(path) else ""


# The inputs of the rule `latency`: ONNX files, their records, and the float network for PyTorch.
TIMED: dict[str, Callable[[Place], str]] = {
    "onnx": lambda place: place.cell.path(ONNX),
    "record": lambda place: place.cell.path(ONNX_RECORD),
    "float_onnx": _of_float(ONNX),
    "float_record": _of_float(ONNX_RECORD),
    "root_onnx": _of_root(ONNX),
    "root_record": _of_root(ONNX_RECORD),
    "network": lambda place: place.of(place.recipe.network, MODEL),
}
# The path of each role in `Kind.inputs`, empty if a model has no such input.
INPUTS: dict[str, Callable[[Place], str]] = {
    "data": lambda place: data_file(place.cell.dataset, place.study.config.data.split_seed),
    "parent": lambda place: place.of(place.recipe.parent, MODEL),
    "teacher": lambda place: place.of(place.study.grammar.teacher(place.recipe.parent, place.recipe.last), MODEL),
    "ancestor": _ancestor,
    "views": _views,
    "sensitivity": _sensitivity,
}
# The inputs of the rule `model_folder`.
IN_FOLDER: dict[str, Callable[[Place], str]] = {
    "data": INPUTS["data"],
    "model": _model,
    "onnx": TIMED["onnx"],
    "record": TIMED["record"],
    "metrics": lambda place: place.cell.path(METRICS),
    "float": lambda place: place.of(place.recipe.network, PREDICTIONS),
    "latency": _latency,
}


def _predictions_of_parent(place: Place) -> str:
    return place.of(place.recipe.parent, PREDICTIONS) if place.recipe.parent else ""


@dataclass(frozen=True)
class Entry:
    """A product of a model.

    ``files`` holds the format of each file by its name; the header of the first holds code, keys and inputs. ``rules``
    make it by ``script``; ``inputs`` gives the path of each role; if these are empty, rule, script and inputs are those
    of the last stage's kind. ``refusal`` returns why a recipe has no file of a name, else "". A name that spells out
    keys matches ``pattern``, and ``identity`` converts its groups to keys of the header. ``keys`` are those
    of the job besides code and inputs. The rule ``all`` asks for the files ``in_all``.
    """

    files: dict[str, str]
    rules: tuple[str, ...] = ()
    script: str = ""
    inputs: dict[str, Callable[[Place], str]] = field(default_factory=dict)
    refusal: Callable[[Recipe, str, Grammar], str] = lambda recipe, name, grammar: ""
    pattern: str = ""
    identity: Callable[[dict], dict] | None = None
    keys: Callable[[Place], dict] = lambda place: {}
    of_stage: bool = False  # depends on the file of the last stage too
    in_all: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        return bool(re.fullmatch(self.pattern, name)) if self.pattern else name in self.files


def network_files(recipe: Recipe, grammar: Grammar) -> list[str]:
    """Return the files of the networks of a model and its ancestors, and of the import of its root, if it is imported.

    They are part of the code of each of its jobs.
    """
    keys = list(map(grammar.resolve, recipe.stages))
    return sorted(set().union(roots.code(keys[0]), *map(registry.files, keys)))


def computed_with(study: Study, keys: dict) -> dict:
    """Return what a job that trains or quantizes depends on besides its ``keys``: threads, and a network's library.

    Sums are split among threads and round differently. A network that is imported is not computed, and a forward pass
    alone has the same bytes with any number of threads.
    """
    threads = {"threads": study.config.threads} if keys.get("source", "train") == "train" else {}
    return threads | made_with(keys)


def _keys_of_model(place: Place) -> dict:
    return place.keys | computed_with(place.study, place.keys)


def _no_history(recipe: Recipe, name: str, grammar: Grammar) -> str:
    trains = recipe.last.kind.trains or name == MODEL
    return "" if trains else f"the stage {recipe.last.text!r} does not train and has no {name}"


def _no_archive(recipe: Recipe, name: str, grammar: Grammar) -> str:
    float_model = f"the stage {recipe.last.text!r} gives a float model, which has no archive"
    return "" if recipe.has_codes else float_model


def _no_sensitivity(recipe: Recipe, name: str, grammar: Grammar) -> str:
    if not recipe.last.kind.quantizes:
        return f"the stage {recipe.last.text!r} does not quantize and has no {name}"
    if (expected := recipe.measured) != recipe.path:
        return f"the file is the same for all bits, orders and budgets, expected {expected}/{name}"
    return ""


def _no_onnx(recipe: Recipe, name: str, grammar: Grammar) -> str:
    return exportable.refusal(recipe, grammar)


def keys_of_export(study: Study) -> dict:
    """Return what an ONNX file depends on besides its inputs."""
    return {"input": study.config.onnx_input}


def _keys_of_measurement(place: Place) -> dict:
    keys = place.recipe.last.type.keys.measurement_keys(place.keys)
    return keys | computed_with(place.study, place.keys)


def keys_of_stages(place: Place) -> dict:
    """Return all keys of every stage, without those that name files of this machine."""
    resolve = place.study.grammar.resolve
    keys = [{"stage": stage.text, "keys": dict(resolve(stage))} for stage in place.recipe.stages]
    for entry in keys:
        entry["keys"].pop("folder", None)
    return {"stages": keys}


OF_CELLS = (
    Entry(
        files={MODEL: formats.MODEL, "history.csv": formats.HISTORY},
        refusal=_no_history,
        keys=_keys_of_model,
        of_stage=True,
        in_all=(MODEL,),
    ),
    Entry(
        rules=("evaluate", "evaluate_root"),
        script="scripts/evaluate.py",
        files={METRICS: formats.METRICS, PREDICTIONS: formats.PREDICTIONS},
        inputs={"data": INPUTS["data"], "model": _model, "parent": _predictions_of_parent},
        in_all=(METRICS,),
    ),
    Entry(
        rules=("archive",),
        script="scripts/archive.py",
        files={"model.archive.safetensors": formats.ARCHIVE},
        inputs={"model": _model},
        refusal=_no_archive,
    ),
    Entry(
        rules=("export",),
        script="scripts/export.py",
        files={ONNX_RECORD: formats.RECORD, ONNX: formats.PLAIN},
        inputs={"data": INPUTS["data"], "model": _model, "predictions": lambda place: place.cell.path(PREDICTIONS)},
        refusal=_no_onnx,
        keys=lambda place: keys_of_export(place.study),
    ),
    Entry(
        rules=("latency",),
        script="scripts/latency.py",
        files={LATENCY: formats.RECORD},
        inputs=TIMED,
        refusal=_no_onnx,
    ),
    Entry(
        rules=("sensitivity",),
        script="scripts/sensitivity.py",
        files={SENSITIVITY: formats.SENSITIVITY},
        inputs={"data": INPUTS["data"], "parent": INPUTS["parent"]},
        refusal=_no_sensitivity,
        keys=_keys_of_measurement,
        of_stage=True,
    ),
    Entry(
        rules=("teacher_cache",),
        script="scripts/teacher_cache.py",
        files={"views": formats.VIEWS},
        inputs={"data": INPUTS["data"], "teacher": _model},
        pattern=r"views,crop=(?P<crop>\d+),flip=(?P<flip>true|false),precision=(auto|bfloat16|float32)\.safetensors",
        identity=lambda spelled: {"crop": int(spelled["crop"]), "flip": spelled["flip"] == "true"},
    ),
    Entry(
        rules=("model_folder",),
        script="scripts/model_folder.py",
        files={
            f"{HUB}/provenance.json": formats.RECORD,
            **dict.fromkeys((f"{HUB}/{name}" for name in GIVEN_AWAY), formats.PLAIN),
        },
        inputs=IN_FOLDER,
        refusal=_no_onnx,
        keys=keys_of_stages,
    ),
)
COPIED = OF_CELLS[0].files  # of a root that seeds share


def names_of_cells() -> list[str]:
    """Return the names of the files that a model may have, those with keys in their names left out."""
    return [name for entry in OF_CELLS if not entry.pattern for name in entry.files]


def entry_of(name: str) -> Entry | None:
    """Return the entry of a model's file."""
    return next((entry for entry in OF_CELLS if entry.holds(name)), None)


def name_in_cell(path: str) -> str:
    """Return the name of a cell's file, given its path."""
    return below_seed(list(PurePath(path).parts))[1]


def all_targets(study: Study, contents: Contents) -> Iterator[str]:
    """Yield what the rule ``all`` asks for.

    Every model and its metrics too: what is missing is made again, even if the tables and the metrics are there.
    """
    cells = [Cell(dataset, seed, recipe.path) for dataset, seed, recipe in study.cells()]
    yield from (cell.path(name) for entry in OF_CELLS for name in entry.in_all for cell in cells)
    yield from timed(study, contents)
    tables = [table for table in TABLES.values() if getattr(contents, table.shows)]
    yield from (table_file(study.name, name, table.form) for table in tables for name in table.names)
    for dataset, figure in itertools.product(study.config.datasets, contents.figures):
        yield from (figure_file(study.name, dataset, figure, form) for form in ("png", "svg"))


def timed(study: Study, contents: Contents) -> list[str]:
    """Return the latencies of the first seed's cells and ancestors: [] unless the study has the key ``latency``."""
    grid = itertools.product(study.config.datasets, contents.timed, study.config.seeds[: TABLES["deployment"].seeds])
    return [Cell(dataset, seed, recipe).path(LATENCY) for dataset, recipe, seed in grid]


@dataclass(frozen=True)
class Product:
    """Files that one job makes, with the format of each, and what the job would make them from now.

    The first file names the code, keys and inputs that it was made from, unless the product is a copy. ``name`` is what
    its keys go by; ``code`` the files whose code it depends on; ``inputs`` their paths by role, in tables and figures
    by path; ``identity`` what the header of a file must hold; ``unseen`` why a key can't be compared, by its name.
    """

    name: str
    rules: tuple[str, ...]
    outputs: dict[str, str]
    code: tuple[str, ...] = ()
    keys: dict = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    identity: dict[str, dict] = field(default_factory=dict)
    is_copy: bool = False
    unseen: dict[str, str] = field(default_factory=dict)


class Products:
    """The products of a study, with the code as it is in ``code``."""

    def __init__(self, study: Study, code: Fingerprints):
        self.study, self.code, self.report = study, code, ReportJobs(study, code)
        self._recipes: dict[str, Recipe] = {}

    def of(self, path: str) -> Product:
        """Return the product that the file ``path`` is part of; raise Foreign, with the reason, if there is none."""
        match PurePath(path).parts:
            case [_, folder, name, *below] if folder == STUDIES and below:
                return self._of_study(path, name, below)
            case [_, name] | [_, _, "figures", name] if PurePath(name).stem in (*TABLE_NAMES, *FIGURES):
                raise Foreign(f"tables and figures of a study lie in {study_folder(self.study.name)}/")
            case [_, "code", name] if re.fullmatch(r"[0-9a-f]{16}\.json", name):
                return Product("code", (), {path: formats.CODE})
            case [_, dataset, _, *_] if dataset not in CATALOG:
                raise Foreign(f"{dataset!r} is no data set, expected one of {', '.join(CATALOG)}")
            case [_, dataset, "data", name] if split := SPLIT.fullmatch(name):
                return self._data_set(path, dataset, int(split[1]))
            case [_, _, seed, _, *_, _] if SEED.fullmatch(seed) and (entry := entry_of(name := name_in_cell(path))):
                cell = Cell.of(path)
                return self._of_cell(entry, Place(self.study, cell, self._recipe(cell.recipe)), name)
        raise Foreign("no file that the workflow makes")

    def _recipe(self, text: str) -> Recipe:
        if text not in self._recipes:
            try:
                recipe = self.study.grammar.parse(text)
                [self.study.grammar.resolve(stage) for stage in recipe.stages]
            except UserError as error:
                raise Foreign(str(error)) from None
            self._recipes[text] = recipe
        return self._recipes[text]

    def _of_cell(self, entry: Entry, place: Place, name: str) -> Product:
        if reason := entry.refusal(place.recipe, name, self.study.grammar):
            raise Foreign(reason)
        cell, stage = place.cell, place.recipe.last
        if name in COPIED and cell.original != cell:
            inputs = {"original": cell.original.path(name)}
            return Product("share_root", ("share_root",), {cell.path(name): COPIED[name]}, inputs=inputs, is_copy=True)
        spelled = re.fullmatch(entry.pattern, name)
        files = dict(zip([name], entry.files.values(), strict=True)) if spelled else entry.files
        refused = {file for file in files if entry.refusal(place.recipe, file, self.study.grammar)}
        outputs = {cell.path(file): form for file, form in files.items() if file not in refused}
        named = cell.identity | (entry.identity(spelled.groupdict()) if spelled else {})
        identity = {path: named for path, form in outputs.items() if form not in (formats.HISTORY, formats.PLAIN)}
        rules, script = entry.rules or (stage.kind.rule or stage.kind.name,), entry.script or stage.kind.script
        roles = entry.inputs or {role: INPUTS[role] for role in stage.kind.inputs}
        stage_file = [str(stage.type.file.relative_to(self.code.home))] if entry.of_stage else []
        return Product(
            stage.name if entry.of_stage else rules[0],
            rules,
            outputs,
            (script, *stage_file, *network_files(place.recipe, self.study.grammar)),
            entry.keys(place),
            {role: path for role, input_of in roles.items() if (path := input_of(place))},
            identity,
        )

    def _data_set(self, path: str, dataset: str, split_seed: int) -> Product:
        keys, identity = self.study.data_keys(dataset), {"dataset": dataset, "split_seed": split_seed}
        code, unseen = ("scripts/prepare_data.py", CATALOG[dataset].declared.file()), {}
        if CATALOG[dataset].images is None:  # only its files tell what is in it
            keys["images"], unseen = self._images
        files = {path: formats.DATA}
        return Product("data", ("prepare_data",), files, code, keys, identity={path: identity}, unseen=unseen)

    @cached_property
    def _images(self) -> tuple[str, dict[str, str]]:
        """Return the digest of the image folder, every image read anew, and why it can't be compared if it can't."""
        folder = self.study.config.data.image_folder
        if not os.path.isdir(folder):
            return "", {"images": f"not compared with its images: data.image_folder {folder!r} is not here"}
        try:
            return folder_digest({"image_folder": folder}), {}
        except UserError as error:
            return str(error), {}

    def _of_study(self, path: str, name: str, below: list[str]) -> Product:
        """Return the product of a table or figure, ``below`` the folder of the study ``name``."""
        if name != self.study.name:
            raise OfAnotherStudy(f"is of the study {name!r}, compared is {self.study.name!r}")
        match below:
            case [_] if rule := next((rule for rule, table in TABLES.items() if path in table.files(name)), ""):
                return self._table(rule, TABLES[rule])
            case ["figures", dataset, file] if dataset in CATALOG and file.partition(".")[2] in FIGURE_FORMS:
                return self._figure(dataset, file.partition(".")[0])
        raise Foreign("no file that the workflow makes")

    def _table(self, rule: str, table: Table) -> Product:
        inputs = self.report.tables(rule)
        inputs += [*(self.report.data_files() if table.data else ()), *self.report.inputs(rule)]
        inputs += self.report.histories() if table.histories else ()
        files = table.files(self.study.name)
        return self._of_report(rule, files, (f"scripts/{rule}.py",), inputs, self.report.job(rule))

    def _figure(self, dataset: str, name: str) -> Product:
        if name not in FIGURES:
            raise Foreign(f"there is no figure {name!r}")
        files = {figure_file(self.study.name, dataset, name, suffix): form for suffix, form in FIGURE_FORMS.items()}
        inputs = self.report.figure_inputs(name, dataset)
        return self._of_report("plot", files, FIGURES[name].code, inputs, self.report.figure_job(name))

    def _of_report(self, rule: str, files: dict, code: tuple[str, ...], inputs: list[str], job: dict) -> Product:
        keys = {key: value for key, value in job.items() if key != "code"}
        return Product(rule, (rule,), files, code, keys, {path: path for path in inputs})
