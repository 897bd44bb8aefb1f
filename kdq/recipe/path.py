"""Where files lie and what their paths mean: the one module that cuts recipes up and glues paths together."""

import re
from dataclasses import dataclass
from pathlib import Path

from kdq.errors import UserError

RESULTS, LOGS = "results", "logs"
STUDIES = "studies"  # below the results, beside the folders of data sets
HUB = "hub"  # in the folder of a cell: the folder of files to give away
SEED = re.compile(r"seed=(0|[1-9][0-9]*)")
SPLIT = re.compile(r"split=(0|[1-9][0-9]*)\.safetensors")  # the name of a data set's file


def stages(recipe: str) -> list[str]:
    """Return the stages of a recipe, in order.

    >>> stages("teacher/kd,temperature=2/gpfq,bits=4")
    ['teacher', 'kd,temperature=2', 'gpfq,bits=4']
    """
    return recipe.split("/")


def join(*parts: str) -> str:
    """Return the recipe of several recipes or stages, of which some may be empty."""
    return "/".join(filter(None, parts))


def parent(recipe: str) -> str:
    """Return the recipe without its last stage, empty for a root."""
    return recipe.rpartition("/")[0]


def name_of(stage: str) -> str:
    """Return the name of a stage: ``kd`` for ``kd,temperature=2``."""
    return stage.partition(",")[0]


def keys_of(stage: str) -> dict[str, str]:
    """Return the keys that a stage spells out, values as their text.

    >>> keys_of("gpfq,bits=4,levels=2^b")
    {'bits': '4', 'levels': '2^b'}
    """
    return dict(pair.split("=", 1) for pair in stage.split(",")[1:])


def below_seed(parts: list[str]) -> tuple[list[str], str]:
    """Return the stages of a cell and the name of its file, given the parts of a path below the folder of a seed.

    >>> below_seed(["teacher", "kd", "model.onnx"]), below_seed(["teacher", "kd", "hub", "model.onnx"])
    ((['teacher', 'kd'], 'model.onnx'), (['teacher', 'kd'], 'hub/model.onnx'))
    """
    depth = 2 if parts[-2:-1] == [HUB] else 1
    return parts[:-depth], "/".join(parts[-depth:])


@dataclass(frozen=True)
class Cell:
    """A model of the grid: a data set, a seed and a recipe as text."""

    dataset: str
    seed: int
    recipe: str

    @classmethod
    def of(cls, path) -> "Cell":
        """Return the cell whose folder holds the file ``path``; raise UserError if no cell's folder does.

        >>> Cell.of("results/digits/seed=0/teacher/kd/model.safetensors")
        Cell(dataset='digits', seed=0, recipe='teacher/kd')
        """
        parts, _ = below_seed(list(Path(path).parts))
        below = parts[len(parts) - parts[::-1].index(RESULTS) :] if RESULTS in parts else []
        if len(below) < 3 or not (seed := SEED.fullmatch(below[1])):
            raise UserError(f"{path}: expected the file of a cell, {RESULTS}/DATASET/seed=NUMBER/RECIPE/NAME")
        return cls(below[0], int(seed[1]), join(*below[2:]))

    def path(self, name: str) -> str:
        """Return the path of the cell's file ``name``."""
        return f"{RESULTS}/{self.dataset}/seed={self.seed}/{self.recipe}/{name}"

    def with_recipe(self, recipe: str) -> "Cell":
        """Return the cell of another recipe under the same data set and seed."""
        return Cell(self.dataset, self.seed, recipe)

    @property
    def original(self) -> "Cell":
        """The cell whose model this one holds a copy of: that of another seed for a root with the key ``seed``.

        >>> Cell("digits", 1, "teacher,epochs=2,seed=0").original
        Cell(dataset='digits', seed=0, recipe='teacher,epochs=2')
        """
        keys = self.recipe.split(",")
        seeds = [seed for key in keys[1:] if (seed := SEED.fullmatch(key))]
        if parent(self.recipe) or not seeds:
            return self
        rest = ",".join(key for key in keys if key != seeds[0][0])
        return Cell(self.dataset, int(seeds[0][1]), rest)

    @property
    def identity(self) -> dict:
        """What a file of the cell holds about its place."""
        return {"dataset": self.dataset, "seed": self.seed, "recipe": self.recipe}


def data_file(dataset: str, split_seed: int | str) -> str:
    """Return the path of a data set's one file."""
    return f"{RESULTS}/{dataset}/data/split={split_seed}.safetensors"


def study_folder(study: str) -> str:
    """Return the folder of a study's tables and figures."""
    return f"{RESULTS}/{STUDIES}/{study}"


def table_file(study: str, name: str, form: str = "csv") -> str:
    """Return the path of a table of a study."""
    return f"{study_folder(study)}/{name}.{form}"


def figure_file(study: str, dataset: str, name: str, form: str) -> str:
    """Return the path of a study's figure of a data set, or with ``form`` ``json`` of its record."""
    return f"{study_folder(study)}/figures/{dataset}/{name}.{form}"
