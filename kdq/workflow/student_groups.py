"""Students of one teacher that one job can train side by side, sharing the teacher's forward pass."""

from pathlib import Path

from kdq.recipe.grammar import Recipe
from kdq.recipe.path import Cell
from kdq.study.config import Study

# keys that determine the teacher's inputs and precision
TEACHER_KEYS = ("area", "batch_size", "crop", "cutout", "flip", "mixup", "precision", "resolution", "resolution_share")
MOST_STUDENTS = 12  # per job: each takes memory, and the command of each job lists the others


def missing_students(study: Study) -> dict[tuple, list[str]]:
    """Return the last stages of the students without a model, by :func:`group_of`, in the order of the study.

    Students that read their teacher's logits from a file are left out: they need no forward pass of it.
    """
    groups: dict[tuple, list[str]] = {}
    networks = {
        (dataset, seed, recipe.path): recipe
        for dataset, seed, cell in study.cells()
        for recipe in (*cell.ancestors, cell)
    }
    for (dataset, seed, path), recipe in networks.items():
        if recipe.last.kind.learns_from != "parent" or study.grammar.resolve(recipe.last)["teacher_cache"]:
            continue
        if not Path(Cell(dataset, seed, path).path("model.safetensors")).exists():
            groups.setdefault(group_of(study, dataset, seed, recipe), []).append(recipe.last.text)
    return groups


def group_of(study: Study, dataset: str, seed: int, recipe: Recipe) -> tuple:
    """Return the key of a student's group: equal keys can share a forward pass, if no method changes the images."""
    keys = study.grammar.resolve(recipe.last)
    return dataset, seed, recipe.parent.path, *(keys.get(key) for key in TEACHER_KEYS)


def students_beside(stages: list[str], stage: str, jobs_at_once: int) -> tuple[int, list[str]]:
    """Return how many of ``stages`` one job trains, equally many per job, and candidates after ``stage``, in turn.

    There are twice as many candidates, because other jobs take some.

    >>> students_beside(["kd", "at", "rkd", "sp"], "at", jobs_at_once=2)
    (2, ['rkd', 'sp', 'kd'])
    >>> students_beside(["kd", "at"], "at", jobs_at_once=2)
    (1, [])
    """
    students = min(-(-len(stages) // jobs_at_once), MOST_STUDENTS)
    if students < 2 or stage not in stages:
        return 1, []
    place = stages.index(stage)
    return students, (stages[place + 1 :] + stages[:place])[: 2 * students]
