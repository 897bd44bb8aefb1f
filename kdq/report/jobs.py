"""Input files and jobs of the report, as the rules plan them and the verification of results compares them."""

from kdq.provenance.fingerprint import Fingerprints
from kdq.recipe.path import Cell, data_file, table_file
from kdq.report.contents import Contents
from kdq.report.figures import FIGURES
from kdq.workflow.job import Job

CELL_FILES = {  # by the rule of a table: the attribute of Contents with the recipes, and the file of each cell
    "table": ("recipes", "metrics.json"),
    "compare": ("recipes", "predictions.safetensors"),
    "sequences": ("recipes", "predictions.safetensors"),
    "sensitivities": ("measured", "sensitivity.csv"),
}
PARAMETERS = {"table": ("dkd_grid", "kinds"), "compare": ("kinds",), "sequences": ("epochs", "kinds")}


class ReportJobs:
    """Input files and jobs of a study's tables and figures."""

    def __init__(self, study, code: Fingerprints):
        self.config, self.contents, self.code = study.config, Contents(study), code

    def _files(self, dataset: str, recipes, name: str) -> list[str]:
        """Return the file ``name`` of recipes: all seeds of the first, then all of the second, and so on."""
        return [Cell(dataset, seed, recipe).path(name) for recipe in recipes for seed in self.config.seeds]

    def data_files(self) -> list[str]:
        """Return the files of the study's data sets."""
        return [data_file(dataset, self.config.data.split_seed) for dataset in self.config.datasets]

    def inputs(self, rule: str, dataset: str = "") -> list[str]:
        """Return the files of cells that the rule of a table reads, of one data set or of all."""
        attribute, name = CELL_FILES[rule]
        recipes, datasets = getattr(self.contents, attribute), [dataset] if dataset else self.config.datasets
        return [path for each in datasets for path in self._files(each, recipes, name)]

    def job(self, rule: str) -> Job:
        """Return the fingerprint of the code of a table's rule, and its parameters."""
        return self._job((f"scripts/{rule}.py",), PARAMETERS.get(rule, ()))

    def figure_inputs(self, name: str, dataset: str) -> list[str]:
        """Return the files that a figure is drawn from: a table, or one file of each cell that it shows."""
        figure = FIGURES[name]
        if figure.table:
            return [table_file(figure.table)]
        return self._files(dataset, getattr(self.contents, figure.shows), figure.cell_file)

    def figure_job(self, name: str) -> Job:
        """Return the fingerprint of a figure's code, and its parameters."""
        return self._job(FIGURES[name].code, FIGURES[name].parameters)

    def _job(self, code: tuple[str, ...], parameters: tuple[str, ...]) -> Job:
        return Job({"code": self.code.of(*code), **{name: getattr(self.contents, name) for name in parameters}})
