"""What the tables and figures of a study are made from: the files of cells, and what a job is told besides.

The rules plan with it, and the verification of results compares with it.
"""

from kdq.provenance.fingerprint import Fingerprints
from kdq.report.contents import Contents
from kdq.workflow.job import Job


class ReportJobs:
    """The input files of each rule of the report that depend on the study, and its job."""

    def __init__(self, study, code: Fingerprints):
        self.config, self.contents, self.code = study.config, Contents(study), code

    def files(self, dataset: str, recipes: list[str], name: str) -> list[str]:
        """The file ``name`` of recipes: all seeds of the first, then all of the second, and so on."""
        return [f"results/{dataset}/seed={seed}/{recipe}/{name}" for recipe in recipes for seed in self.config.seeds]

    def files_of_all(self, name: str) -> list[str]:
        """The file ``name`` of every cell and of all that they descend from."""
        return [path for dataset in self.config.datasets for path in self.files(dataset, self.contents.recipes, name)]

    def data_files(self) -> list[str]:
        seed = self.config.data.split_seed
        return [f"results/{dataset}/data/split={seed}.safetensors" for dataset in self.config.datasets]

    def inputs(self, rule: str, dataset: str = "") -> list[str]:
        """The input files of a rule that are those of cells; none for a rule whose inputs are always the same."""
        grid = [point.recipe for point in self.contents.dkd_grid]
        found = {
            "table": lambda: self.files_of_all("metrics.json"),
            "compare": lambda: self.files_of_all("predictions.safetensors"),
            "sequences": lambda: self.files_of_all("predictions.safetensors"),
            "sensitivities": lambda: [
                path
                for dataset in self.config.datasets
                for path in self.files(dataset, self.contents.measured, "sensitivity.csv")
            ],
            "plot_training_curves": lambda: self.files(dataset, self.contents.trained, "history.csv"),
            "plot_dkd_curves": lambda: self.files(dataset, grid, "history.csv"),
            "plot_dkd_heatmap": lambda: self.files(dataset, grid, "metrics.json"),
        }
        return found[rule]() if rule in found else []

    def job(self, rule: str) -> Job:
        """The code of the rule's script, and what the script is told of the study."""
        contents = self.contents
        told = {
            "table": lambda: {"dkd_grid": [point.recipe for point in contents.dkd_grid], "kinds": contents.kinds},
            "compare": lambda: {"kinds": contents.kinds},
            "sequences": lambda: {"epochs": contents.epochs, "kinds": contents.kinds},
            "plot_training_curves": lambda: {"quantized": contents.quantized_networks, "recipes": contents.trained},
            "plot_dkd_curves": lambda: {"points": [[point.alpha, point.beta] for point in contents.dkd_grid]},
        }
        return Job({"code": self.code.of(f"scripts/{rule}.py"), **(told[rule]() if rule in told else {})})
