"""The table of comparisons: for pairs of recipes the difference of test accuracy, and whether it may be chance."""

from itertools import groupby

import numpy as np

from kdq.data.prepared import read as read_data
from kdq.errors import UserError, shown
from kdq.evaluate import predictions as predictions_file
from kdq.evaluate.significance import Outcome, bootstrap_images, holm, paired, welch
from kdq.report import pairs
from kdq.report.bits import nearest_tenth

SIGNIFICANT = 0.05
COLUMNS = {
    "dataset": "data set",
    "family": "`baseline`: float networks against `hard` (without one, the first root); `float`: among themselves; "
    "`networks`: quantized ones by one quantizer at the same bits; `quantizers`: of one network at the same bits. "
    f"Of more than {pairs.ALL_PAIRS_UP_TO} models that could be compared, each is with the first alone",
    "recipe": "the model",
    "other": "the model that it is compared with",
    "bits": "bits a weight of both, to a tenth; 32 for float models",
    "design": "`own teacher`: under each seed a teacher of its own; `shared teacher`: one for all seeds "
    "(`teacher,seed=0/...`), so that nothing is said of other teachers; `own and shared teacher`: one of each",
    "seeds": "number of seeds that both have",
    "test_images": "images of the test part",
    "difference": "accuracy of `recipe` less that of `other`, test part, mean over the seeds, share of 1",
    "test": "t test over seeds: `paired` where both descend from one model under each seed (the same teacher, the same "
    "float network), or one from the other; else `Welch`; empty for one seed",
    "low": "95% interval of the difference over seeds, by `test`, lower end",
    "high": "its upper end",
    "p_welch": "p-value of Welch's t test over seeds, two-sided; empty where neither model has a spread",
    "p_paired": "p-value of the paired t test over seeds, two-sided; empty where all differences are equal",
    "p_holm": "p-value of `test`, corrected by Holm for all of this data set and family",
    "image_low": "95% interval of the difference over test images, by the paired bootstrap, lower end",
    "image_high": "its upper end",
    "p_images": "p-value of the paired bootstrap over test images, two-sided",
    "p_images_holm": "`p_images`, corrected by Holm for all of this data set and family",
    "within_noise": f"`false` where `p_holm` and `p_images_holm` are both below {SIGNIFICANT}, else `true`; empty "
    "where no test over seeds is possible",
    "note": "what limits the row: a single seed, one difference under all seeds, one model under all seeds",
}
OF_THE_PAIR = ("dataset", "family", "recipe", "other", "bits")  # all other columns are statistics of its difference
SINGLE_SEED = "single seed: the bootstrap speaks of other test images alone, nothing of other seeds"

Cell = tuple[str, int, str]


def read_correct(data_files: list, prediction_files: list) -> dict[Cell, np.ndarray]:
    """For each (data set, seed, recipe) whether each test image is classified right, boolean (M,)."""
    labels = {}
    for path in data_files:
        prepared = read_data(path)
        labels[prepared.dataset] = prepared.test.labels.numpy()
    correct = {}
    for path in prediction_files:
        header, tensors = predictions_file.read(path)
        cell = tuple(header.get(key) for key in ("dataset", "seed", "recipe"))
        if not all(isinstance(name, str | int) for name in cell) or cell[0] not in labels:
            raise UserError(f"{path}: of the data set {shown(cell[0])}, expected one of {', '.join(labels)}")
        of_cell = labels[cell[0]]
        correct[cell] = predictions_file.classes(path, tensors, "test", len(of_cell)).numpy() == of_cell
    return correct


def rows(table: list[dict], kinds: dict[str, str], correct: dict[Cell, np.ndarray]) -> list[dict]:
    """The rows of the comparisons, of the rows of the table and :func:`read_correct`; ``kinds`` as for the table."""
    found = []
    for dataset, group in groupby(sorted(table, key=_cell), lambda row: row["dataset"]):
        seeds: dict[str, set] = {}
        models = {}
        for row in group:
            seeds.setdefault(row["recipe"], set()).add(row["seed"])
            models.setdefault(row["recipe"], row)
        for family, model, other in pairs.choose(list(models.values())):
            common = sorted(seeds[model["recipe"]] & seeds[other["recipe"]])
            if common:
                pair = {"dataset": dataset, "family": family, "recipe": model["recipe"], "other": other["recipe"]}
                found.append(pair | {"bits": nearest_tenth(model["bits"])} | difference(pair, kinds, common, correct))
    return corrected(found, ("dataset", "family"), COLUMNS)


def _cell(row: dict) -> tuple:
    return row["dataset"], row["recipe"], row["seed"]


def difference(pair: dict, kinds: dict[str, str], seeds: list[int], correct: dict[Cell, np.ndarray]) -> dict:
    """The statistics of the recipes ``recipe`` and ``other`` of a ``dataset``, under the seeds that both have.

    p-values are not corrected yet, and there is no verdict: :func:`corrected` does both.
    """
    recipe, against = pair["recipe"], pair["other"]
    answers, others = (_answers(correct, pair["dataset"], seeds, path) for path in (recipe, against))
    images = answers.shape[1]
    counts, other_counts = answers.sum(1), others.sum(1)  # whole numbers: equal accuracies have exactly no spread
    by_welch, by_pairs = welch(counts, other_counts), paired(counts, other_counts)
    test = "paired" if share_a_model(recipe, against) else "Welch"
    over_seeds = by_pairs if test == "paired" else by_welch
    over_images = bootstrap_images(answers, others)
    return {
        "design": design(recipe, against, kinds),
        "seeds": len(seeds),
        "test_images": images,
        "difference": float(counts.mean() - other_counts.mean()) / images,
        "test": test if len(seeds) > 1 else None,
        "low": over_seeds.low / images if over_seeds.low is not None else None,
        "high": over_seeds.high / images if over_seeds.high is not None else None,
        "p_welch": by_welch.p,
        "p_paired": by_pairs.p,
        "p_holm": over_seeds.p,
        "image_low": over_images.low,
        "image_high": over_images.high,
        "p_images": over_images.p,
        "p_images_holm": over_images.p,
        "note": _note(recipe, against, len(seeds), over_seeds),
    }


def _answers(correct: dict[Cell, np.ndarray], dataset: str, seeds: list[int], recipe: str) -> np.ndarray:
    """Whether each test image is classified right under each seed, boolean (S, M)."""
    if missing := [seed for seed in seeds if (dataset, seed, recipe) not in correct]:
        raise UserError(f"no predictions of {dataset} seed {missing[0]}: {recipe}, which the table has")
    return np.stack([correct[dataset, seed, recipe] for seed in seeds])


def share_a_model(recipe: str, other: str) -> bool:
    """Do both descend, under each seed, from one model of that seed (or one from the other)?

    A root that all seeds share is no such model: it is a constant and brings the two no nearer.
    """
    common = 0
    for stage, of_other in zip(recipe.split("/"), other.split("/"), strict=False):
        if stage != of_other:
            break
        common += 1
    return common > int(pairs.shares_root(recipe))


def design(recipe: str, other: str, kinds: dict[str, str]) -> str:
    """Have the teachers of the two a seed each, or do all seeds share one?

    A root that is not shared has no part in it (``hard`` against a student), but for one of the other's own name.
    """
    alike = len({path.split("/")[0].split(",")[0] for path in (recipe, other)}) == 1
    concerned = [path for path in (recipe, other) if alike or pairs.shares_root(path) or _is_distilled(path, kinds)]
    shared = {pairs.shares_root(path) for path in concerned or (recipe, other)}
    if len(shared) > 1:
        return "own and shared teacher"
    return "shared teacher" if shared.pop() else "own teacher"


def _is_distilled(recipe: str, kinds: dict[str, str]) -> bool:
    return any(kinds[stage.split(",")[0]] == "distill" for stage in recipe.split("/"))


def _note(recipe: str, other: str, seeds: int, over_seeds: Outcome) -> str | None:
    if seeds == 1:
        return SINGLE_SEED
    alone = [path for path in (recipe, other) if "/" not in path and pairs.shares_root(path)]
    notes = [f"{path} is one model under all seeds" for path in alone]
    if over_seeds.p is None:
        notes.append("the same difference under all seeds: no test over them")
    return "; ".join(notes) or None


def corrected(found: list[dict], family_columns: tuple[str, ...], columns) -> list[dict]:
    """The rows with Holm's corrections and the verdict, in the order of ``columns``.

    A family, whose comparisons are corrected for one another, are the rows that agree in ``family_columns``.
    """
    families: dict[tuple, list[dict]] = {}
    for row in found:
        families.setdefault(tuple(row[column] for column in family_columns), []).append(row)
    for family in families.values():
        for column in ("p_holm", "p_images_holm"):
            for row, p in zip(family, holm([row[column] for row in family]), strict=True):
                row[column] = p
    for row in found:
        both = (row["p_holm"], row["p_images_holm"])
        row["within_noise"] = None if row["p_holm"] is None else not all(p < SIGNIFICANT for p in both)
    return [{column: row[column] for column in columns} for row in found]
