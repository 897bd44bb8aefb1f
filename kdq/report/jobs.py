"""Input files and jobs of the report, as the rules plan them and the verification of results compares them."""

import itertools
from dataclasses import dataclass

from kdq.provenance import formats
from kdq.provenance.fingerprint import Fingerprints
from kdq.recipe.path import Cell, data_file, table_file
from kdq.report.contents import Contents
from kdq.report.figures import FIGURES
from kdq.report.page import assets
from kdq.workflow.job import Job


@dataclass(frozen=True)
class Table:
    """Tables ``names`` that a rule makes from the ``cell_files`` of each cell and from other ``tables`` of the study.

    ``shows``, ``cells`` and ``parameters`` are attributes of :class:`kdq.report.contents.Contents`: that without which
    a study has no such table, the recipes of the cells, and what the script is given. With ``data`` the rule reads
    the files of all data sets too, with ``histories`` those of all trainings. ``seeds`` is how many of a study's
    seeds it shows, None for all. The files end in ``form``.
    """

    names: tuple[str, ...]
    cell_files: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    data: bool = False
    histories: bool = False
    cells: str = "recipes"
    shows: str = "recipes"
    seeds: int | None = None
    form: str = "csv"

    def files(self, study: str) -> dict[str, str]:
        """Return the format of each file by its path, in the study of that name."""
        tables = {table_file(study, name, self.form): formats.PLAIN for name in self.names}
        return {table_file(study, self.names[0], "json"): formats.RECORD, **tables}


METRICS, PREDICTIONS = "metrics.json", "predictions.safetensors"
OF_PREDICTIONS = {"cell_files": (PREDICTIONS,), "tables": ("table",), "data": True}
TABLES = {  # by rule
    "table": Table(("table", "summary", "layers"), (METRICS,), ("dkd_grid", "kinds"), histories=True),
    "compare": Table(("comparisons",), parameters=("kinds",), **OF_PREDICTIONS),
    "sequences": Table(("sequences",), parameters=("epochs", "kinds"), shows="sequences", **OF_PREDICTIONS),
    "sensitivities": Table(("sensitivity",), ("sensitivity.csv",), cells="measured", shows="measured"),
    "deployment": Table(("deployment",), ("latency.json",), tables=("table",), cells="timed", shows="timed", seeds=1),
    "page": Table(
        ("index",),
        (METRICS, PREDICTIONS),
        parameters=("figures", "kinds"),
        tables=("table", "summary", "comparisons", "deployment"),
        data=True,
        histories=True,
        form="html",
    ),
}


class ReportJobs:
    """Input files and jobs of a study's tables and figures."""

    def __init__(self, study, code: Fingerprints):
        self.study, self.config, self.contents, self.code = study.name, study.config, Contents(study), code

    def _files(self, dataset: str, recipes, name: str, seeds: int | None = None) -> list[str]:
        """Return the file ``name`` of recipes: all seeds of the first, then all of the second, and so on."""
        return [Cell(dataset, seed, recipe).path(name) for recipe in recipes for seed in self.config.seeds[:seeds]]

    def data_files(self) -> list[str]:
        """Return the files of the study's data sets."""
        return [data_file(dataset, self.config.data.split_seed) for dataset in self.config.datasets]

    def inputs(self, rule: str) -> list[str]:
        """Return the files of cells that the rule of a table reads."""
        table = TABLES[rule]
        recipes, grid = getattr(self.contents, table.cells), itertools.product(self.config.datasets, table.cell_files)
        return [path for dataset, file in grid for path in self._files(dataset, recipes, file, table.seeds)]

    def tables(self, rule: str) -> list[str]:
        """Return the tables of the study that the rule of a table reads."""
        return [table_file(self.study, name) for name in self._made(*TABLES[rule].tables)]

    def _made(self, *names: str) -> list[str]:
        """Return those of the tables ``names`` that the study has."""
        made = {name for table in TABLES.values() if getattr(self.contents, table.shows) for name in table.names}
        return [name for name in names if name in made]

    def histories(self) -> list[str]:
        """Return the histories of all trainings of the study's models."""
        recipes = self.contents.with_history
        return [path for dataset in self.config.datasets for path in self._files(dataset, recipes, "history.csv")]

    def job(self, rule: str) -> Job:
        """Return the fingerprint of the code of a table's rule, and its parameters; of the page its other parts too."""
        job = self._job((f"scripts/{rule}.py",), TABLES[rule].parameters)
        return Job(job | {"assets": assets.digest(assets.read())}) if rule == "page" else job

    def figure_inputs(self, name: str, dataset: str) -> list[str]:
        """Return the files that a figure is drawn from: one or two tables, or one file of each cell that it shows."""
        figure = FIGURES[name]
        if figure.table:
            return [table_file(self.study, table) for table in self._made(figure.table, figure.beside)]
        return self._files(dataset, getattr(self.contents, figure.shows), figure.cell_file)

    def figure_job(self, name: str) -> Job:
        """Return the fingerprint of a figure's code, and its parameters."""
        return self._job(FIGURES[name].code, FIGURES[name].parameters)

    def _job(self, code: tuple[str, ...], parameters: tuple[str, ...]) -> Job:
        return Job({"code": self.code.of(*code), **{name: getattr(self.contents, name) for name in parameters}})
