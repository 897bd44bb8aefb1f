"""Quantized cells that one job makes together: one stage at several bit-widths, on one parent, none of them tried yet.

The job shares what does not depend on the bits; every cell keeps its own file, and whether it has to be made again is
decided for it alone.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kdq.recipe.grammar import Recipe, folder, spell
from kdq.study.config import Study

SHARED = "bits"
# Each set is a rule of its own, and with every rule the planning of each job takes longer: further cells are made alone
MOST = 100


@dataclass(frozen=True)
class Together:
    """Cells of one data set, seed and parent; ``stages`` are their last stages by bits, ``stage`` the same without."""

    dataset: str
    seed: int
    parent: str
    stage: str
    stages: dict[int, str]

    @property
    def recipe(self) -> str:
        """All cells as one recipe, to name the job by."""
        return f"{self.parent}/{self.stage},{SHARED}={'+'.join(map(str, self.stages))}"

    @property
    def models(self) -> dict[str, str]:
        """The model file of every cell, each with a name of its own."""
        return {f"{SHARED}{bits}": self.model(stage) for bits, stage in self.stages.items()}

    @property
    def logs(self) -> list[str]:
        """The log of the job, and one of every cell."""
        return [self._log(self.recipe), *(self._log(f"{self.parent}/{stage}") for stage in self.stages.values())]

    def untried(self) -> "Together":
        """Those of the cells that have neither a model nor a log."""
        new = {
            bits: stage
            for bits, stage in self.stages.items()
            if not Path(self.model(stage)).exists() and not Path(self._log(f"{self.parent}/{stage}")).exists()
        }
        return replace(self, stages=new)

    def model(self, stage: str) -> str:
        """The model file of the cell with this last stage."""
        return f"{folder(self.dataset, self.seed, f'{self.parent}/{stage}')}/model.safetensors"

    def _log(self, recipe: str) -> str:
        return f"logs/quantize/{self.dataset}/seed={self.seed}/{recipe}.log"


def to_make_together(study: Study) -> list[Together]:
    """The first sets of two cells or more of a study that can be made together, in the order of the study.

    A cell that was tried before, as its log tells, is left to a job of its own: whatever failed fails alone then.
    """
    sets = (cells for cells in (alike.untried() for alike in _alike(study)) if len(cells.stages) > 1)
    return list(itertools.islice(sets, MOST))


def _alike(study: Study) -> list[Together]:
    """All quantized cells and quantized networks that cells are built on, those together that the bits tell apart."""
    sets: dict[tuple, Together] = {}
    for dataset, seed, recipe in _networks(study):
        if _is_shared(study, recipe):
            stage = _without_bits(recipe)
            alike = Together(dataset, seed, recipe.parent.path, stage, {})
            alike = sets.setdefault((dataset, seed, recipe.parent.path, stage), alike)
            alike.stages[recipe.last.keys[SHARED]] = recipe.last.text
    return list(sets.values())


def _networks(study: Study) -> Iterator[tuple[str, int, Recipe]]:
    """Every network that a study makes, once: its cells, and what they are built on."""
    seen = set()
    for dataset, seed, cell in study.cells():
        for recipe in (*cell.ancestors, cell):
            if (network := (dataset, seed, recipe.path)) not in seen:
                seen.add(network)
                yield dataset, seed, recipe


def _is_shared(study: Study, recipe: Recipe) -> bool:
    """Does it end with a stage that spells out its bits, and asks for no measurement of its layers?"""
    last = recipe.last
    if not last.kind.quantizes or SHARED not in last.keys:
        return False
    return not last.type.keys.needs_measurement(study.grammar.resolve(last))


def _without_bits(recipe: Recipe) -> str:
    return spell(recipe.last.name, {key: value for key, value in recipe.last.keys.items() if key != SHARED})


# what the images depend on that a teacher is asked about, and how it answers
HEARD = ("batch_size", "crop", "cutout", "flip", "mixup", "precision")
# Students of one job: each takes memory, and their jobs stand in the command of each.
MOST_STUDENTS = 12


def missing_students(study: Study) -> dict[tuple, list[str]]:
    """Last stages of the students that have no model, by :func:`of_one_teacher`, in the order of the study.

    Those that read their teacher's logits from a file do not ask it.
    """
    found: dict[tuple, list[str]] = {}
    for dataset, seed, recipe in _networks(study):
        asks = recipe.last.kind.learns_from == "parent" and not study.grammar.resolve(recipe.last)["teacher_cache"]
        if asks and not Path(folder(dataset, seed, recipe.path), "model.safetensors").exists():
            found.setdefault(of_one_teacher(study, dataset, seed, recipe), []).append(recipe.last.text)
    return found


def of_one_teacher(study: Study, dataset: str, seed: int, recipe: Recipe) -> tuple:
    """Equal for the students that hear the same from one teacher, as long as their methods leave the images alone."""
    keys = study.grammar.resolve(recipe.last)
    return dataset, seed, recipe.parent.path, *(keys[key] for key in HEARD)


def beside(stages: list[str], stage: str, jobs_at_once: int) -> tuple[int, list[str]]:
    """How many of the ``stages`` one job trains, so that every job has as many; and which, after ``stage``, in turn.

    There are more of the second, since other jobs take some.

    >>> beside(["kd", "at", "rkd", "sp"], "at", jobs_at_once=2)
    (2, ['rkd', 'sp', 'kd'])
    >>> beside(["kd", "at"], "at", jobs_at_once=2)
    (1, [])
    """
    students = min(-(-len(stages) // jobs_at_once), MOST_STUDENTS)
    if students < 2 or stage not in stages:
        return 1, []
    place = stages.index(stage)
    return students, (stages[place + 1 :] + stages[:place])[: 2 * students]
