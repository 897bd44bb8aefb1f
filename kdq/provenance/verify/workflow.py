"""The product that a path belongs to, as the rules of the workflow have it."""

import re
from pathlib import PurePath

from kdq.errors import UserError
from kdq.provenance import ledger
from kdq.provenance.fingerprint import Fingerprints
from kdq.provenance.verify import products
from kdq.provenance.verify.products import Product
from kdq.recipe import measurement as measured
from kdq.recipe.grammar import Recipe, spell
from kdq.recipe.path import figure_file
from kdq.report.figures import FIGURES
from kdq.report.jobs import ReportJobs
from kdq.study.config import DATASETS, Study

TABLES = {
    "table": ("table", "summary", "layers"),
    "compare": ("comparisons",),
    "sequences": ("sequences",),
    "sensitivities": ("sensitivity",),
}


class Foreign(UserError):
    """A path that no job of the workflow makes."""


class Workflow:
    """What the workflow makes for a study, with the code as it is in ``code``."""

    def __init__(self, study: Study, code: Fingerprints):
        self.study, self.code, self.report = study, code, ReportJobs(study, code)
        self._recipes: dict[str, Recipe] = {}

    def product(self, path: str) -> Product:
        """The product that the file ``path`` is part of; raises Foreign, saying why, where it is part of none."""
        match path.split("/"):
            case ["results", name]:
                return self._table(name)
            case ["results", "code", name] if re.fullmatch(r"[0-9a-f]{16}\.json", name):
                return Product("code", (str(ledger.FOLDER / name),), products.no_claim)
            case ["results", dataset, *_] if dataset not in DATASETS:
                raise Foreign(f"{dataset!r} is no data set, expected one of {', '.join(DATASETS)}")
            case ["results", dataset, "data", name] if found := re.fullmatch(r"split=(0|[1-9]\d*)\.safetensors", name):
                return self._data(path, dataset, int(found[1]))
            case ["results", dataset, "figures", name] if re.fullmatch(r"\w+\.(png|svg|json)", name):
                return self._figure(dataset, PurePath(name).stem)
            case ["results", dataset, seed, *recipe, name] if found := re.fullmatch(r"seed=(0|[1-9]\d*)", seed):
                return self._of_cell(dataset, int(found[1]), self._recipe("/".join(recipe)), name)
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

    def _table(self, file: str) -> Product:
        for rule, names in TABLES.items():
            record = f"results/{names[0]}.json"
            outputs = (*(f"results/{name}.csv" for name in names), record)
            if f"results/{file}" in outputs:
                job, inputs = self.report.job(rule), self.report.inputs(rule)
                return _of_report(rule, outputs, record, (f"scripts/{rule}.py",), job, inputs)
        raise Foreign("no file that the workflow makes")

    def _figure(self, dataset: str, name: str) -> Product:
        if name not in FIGURES:
            raise Foreign(f"there is no figure {name!r}")
        outputs = tuple(figure_file(dataset, name, form) for form in ("png", "svg", "json"))
        inputs, job = self.report.figure_inputs(name, dataset), self.report.figure_job(name)
        return _of_report(name, outputs, outputs[-1], FIGURES[name].code, job, inputs)

    def _data(self, path: str, dataset: str, split_seed: int) -> Product:
        return Product(
            "data",
            (path,),
            products.claim_of_tensors(path),
            ("scripts/prepare_data.py",),
            self.study.data_keys(dataset),
            identity={path: {"dataset": dataset, "split_seed": split_seed}},
        )

    def _of_cell(self, dataset: str, seed: int, recipe: Recipe, name: str) -> Product:
        folder = f"results/{dataset}/seed={seed}"
        shared = recipe.parent is None and recipe.last.keys.get("seed") is not None
        if name in ("metrics.json", "predictions.safetensors"):
            return self._evaluation(dataset, seed, recipe, folder)
        if name == measured.FILE or name == "model.archive.safetensors":
            path = f"{folder}/{recipe.path}/{name}"
            return Product(name, (path,), products.no_claim)
        if name.startswith("views,"):
            return self._views(f"{folder}/{recipe.path}", dataset, name)
        trains = recipe.last.kind.trains
        if name != "model.safetensors" and not (name == "history.csv" and trains):
            raise Foreign("no file that the workflow makes")
        if shared:
            return _shared(f"results/{dataset}", seed, recipe, name)
        return self._model(dataset, seed, recipe, folder, trains)

    def _data_file(self, dataset: str) -> str:
        return f"results/{dataset}/data/split={self.study.config.data.split_seed}.safetensors"

    def _model(self, dataset: str, seed: int, recipe: Recipe, folder: str, trains: bool) -> Product:
        stage, home = recipe.last, self.code.home
        model, history = (f"{folder}/{recipe.path}/{name}" for name in ("model.safetensors", "history.csv"))
        inputs = {"data": self._data_file(dataset)}
        if recipe.parent:
            inputs["parent"] = f"{folder}/{recipe.parent.path}/model.safetensors"
        if stage.kind.quantizes and stage.type.keys.needs_measurement(self.study.grammar.resolve(stage)):
            inputs["sensitivity"] = f"{folder}/{measured.measured_recipe(recipe)}/{measured.FILE}"
        if stage.kind.learns_from == "ancestor":
            teacher = self.study.grammar.teacher(recipe.parent, stage)
            inputs["teacher"] = f"{folder}/{teacher.path}/model.safetensors"
        return Product(
            stage.name,
            (model, history) if trains else (model,),
            products.claim_of_tensors(model, history if trains else ""),
            (stage.kind.script, str(stage.type.file.relative_to(home))),
            self.study.grammar.resolve(stage),
            inputs,
            {model: {"dataset": dataset, "seed": seed, "recipe": recipe.path}},
        )

    def _evaluation(self, dataset: str, seed: int, recipe: Recipe, folder: str) -> Product:
        own = f"{folder}/{recipe.path}"
        metrics, predictions = f"{own}/metrics.json", f"{own}/predictions.safetensors"
        inputs = {"data": self._data_file(dataset), "model": f"{own}/model.safetensors"}
        if recipe.parent:
            inputs["parent"] = f"{folder}/{recipe.parent.path}/predictions.safetensors"
        cell = {"dataset": dataset, "seed": seed, "recipe": recipe.path}
        claim = products.claim_of_metrics(metrics, predictions)
        code = ("scripts/evaluate.py",)
        return Product("evaluate", (metrics, predictions), claim, code, {}, inputs, {metrics: cell, predictions: cell})

    def _views(self, folder: str, dataset: str, name: str) -> Product:
        found = re.fullmatch(r"views,crop=(\d+),flip=(true|false),precision=(auto|bfloat16|float32)\.safetensors", name)
        if not found:
            raise Foreign("no file that the workflow makes")
        path = f"{folder}/{name}"
        inputs = {"data": self._data_file(dataset), "teacher": f"{folder}/model.safetensors"}
        says = {"crop": int(found[1]), "flip": found[2] == "true"}
        claim, code = products.claim_of_tensors(path), ("scripts/teacher_cache.py",)
        return Product("views", (path,), claim, code, {}, inputs, {path: says})


def _of_report(name: str, outputs: tuple, record: str, code: tuple, job: dict, inputs: list) -> Product:
    keys = {key: value for key, value in job.items() if key != "code"}
    claim = products.claim_of_record(record, tuple(path for path in outputs if path != record))
    return Product(name, outputs, claim, code, keys, {path: path for path in inputs})


def _shared(folder: str, seed: int, recipe: Recipe, name: str) -> Product:
    """The copy of a root that another seed shares."""
    root = recipe.last
    original = spell(root.name, {key: value for key, value in root.keys.items() if key != "seed"})
    path, source = f"{folder}/seed={seed}/{recipe.path}/{name}", f"{folder}/seed={root.keys['seed']}/{original}/{name}"
    return Product("share_root", (path,), products.claim_of_copy(path), inputs={"original": source})
