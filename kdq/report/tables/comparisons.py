"""The table of comparisons: planned contrasts of test accuracy, and whether a difference may be chance."""

from dataclasses import replace

import numpy as np
import pandas as pd

from kdq.errors import UserError
from kdq.evaluate.significance import POWER, Outcome, bootstrap_images, holm, paired, welch
from kdq.recipe.kinds import KINDS
from kdq.recipe.path import Cell, name_of, parent, stages
from kdq.report import pairs, precisions
from kdq.report.bits import nearest_tenth
from kdq.report.tables import summary
from kdq.report.tables.schema import Schema, bits_per_weight, count, number, share, text

Answers = dict[Cell, np.ndarray]  # for each cell whether each test image is classified correctly, boolean (M,)

SIGNIFICANT = 0.05
MIXED = "trained in bfloat16 and in float32, as `precision: auto` was on unlike machines: no verdict"
SINGLE_SEED = "single seed: the bootstrap speaks of other test images alone, nothing of other seeds"
SEEN = "the best was chosen on validation images that an imported root may have been trained on"

STATISTICS = {
    "design": text(
        "`own teacher`: a teacher per seed; `shared teacher`: one for all seeds (`teacher,seed=0/...`), so that the "
        "row does not generalize to other teachers; `own and shared teacher`: one of each"
    ),
    "seeds": count("number of seeds that both models have"),
    "test_images": count("size of the test part", unit="images"),
    "difference": share("accuracy of `recipe` less that of `other`, test part, mean over the seeds"),
    "test": text(
        "t test over seeds: `paired` if under each seed both networks have one size, and so the same initial weights "
        "and batches, or both descend from one model (the same teacher, the same float network), or one from the "
        "other; else `Welch`; empty for one seed",
        optional=True,
    ),
    "low": share("95% interval of the difference over seeds, by `test`, lower end", optional=True),
    "high": share("its upper end", optional=True),
    "p": number("p-value of `test`, two-sided; empty if the seeds have no spread", optional=True),
    "p_holm": number(
        "`p`, corrected by Holm for all that is compared with `other` in this data set and family; empty if the note "
        "refuses a verdict",
        optional=True,
    ),
    "image_low": share("95% interval of the difference over test images, by the paired bootstrap, lower end"),
    "image_high": share("its upper end"),
    "p_images": number("p-value of the paired bootstrap over test images, two-sided"),
    "p_images_holm": number("`p_images`, corrected in the same way", optional=True),
    "detectable": share(
        f"smallest true difference, of either sign, that each of the two tests would have found with a probability of "
        f"{POWER:.0%}, had its spread been the observed one, at {SIGNIFICANT} over the number of tests that Holm "
        "corrects for; the larger of the two, of a single seed that of the test over images",
        optional=True,
    ),
    "verdict": text(
        f"`better` or `worse` than `other` if `p_holm` and `p_images_holm` are both below {SIGNIFICANT}, else "
        "`undecided`, which is not the same as equal: see `detectable`; empty if there is no test over seeds or the "
        "note refuses one",
        optional=True,
    ),
    "note": text(
        "limits of the row: a single seed, the same difference under all seeds, one model under all seeds; why there "
        "is no verdict",
        optional=True,
    ),
}


def of_each(columns: dict) -> dict:
    """Return the columns that describe ``recipe``, each followed by that of ``other``."""
    return {
        f"{side}{name}": replace(column, meaning=f"`{model}`: {column.meaning}")
        for name, column in columns.items()
        for side, model in (("", "recipe"), ("other_", "other"))
    }


OF_EACH = ("activation_bits", "test_top1_mean", "test_expected_calibration_error_mean")
SCHEMA = Schema(
    "comparisons",
    "one row per data set and planned contrast",
    {
        "dataset": text("data set"),
        "family": text(
            "; ".join(f"`{name}`: {meaning}" for name, meaning in pairs.FAMILIES.items()) + ". Best is "
            "always by mean accuracy on the validation part"
        ),
        "recipe": text("the model"),
        "other": text("the model that it is compared with"),
        "bits": bits_per_weight("bits of `recipe`, to a tenth; 32 for a float model"),
        **of_each({name: summary.SCHEMA.columns[name] for name in OF_EACH}),
        **STATISTICS,
    },
)


def rows(table: pd.DataFrame, kinds: dict[str, str], correct: Answers) -> pd.DataFrame:
    """Return the comparisons of the cells in ``table``, with the answers ``correct``; ``kinds`` as for the cells."""
    compared = []
    for dataset, group in table.groupby("dataset"):
        models = described(group)
        for family, recipe, reference in pairs.choose(models):
            model, other = models.loc[recipe], models.loc[reference]
            if statistics := difference(model, other, kinds, correct):
                pair = {"dataset": dataset, "family": family, "recipe": recipe, "other": reference}
                pair |= {name: model[name] for name in OF_EACH} | {f"other_{name}": other[name] for name in OF_EACH}
                if family.startswith("best") and True in (model.validation_seen, other.validation_seen):
                    statistics["note"] = "; ".join(filter(None, (statistics["note"], SEEN)))
                compared.append(pair | {"bits": nearest_tenth(model.bits)} | statistics)
    return SCHEMA.frame(corrected(compared, ["dataset", "family", "other"]))


def described(table: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of one data set's cells by recipe, with each model's seeds and precisions, both sets."""
    models = summary.summarize(table).set_index("recipe", drop=False).rename_axis(None)
    by_recipe = pd.Series(precisions.by_recipe(table))
    return models.assign(all_seeds=table.groupby("recipe").seed.agg(set), auto_precisions=by_recipe)


def difference(model: pd.Series, other: pd.Series, kinds: dict[str, str], correct: Answers, refusal="") -> dict:
    """Return the statistics of two models, rows of :func:`described`, over the seeds that both have; {} without any.

    There is no verdict if there is a ``refusal``, a text, or if they were trained in both values of `auto`. Holm's
    correction and the verdict are left to :func:`corrected`.
    """
    seeds = sorted(model.all_seeds & other.all_seeds)
    if not seeds:
        return {}
    answers, others = (_answers(correct, model.dataset, seeds, path) for path in (model.recipe, other.recipe))
    images = answers.shape[1]
    is_paired = model.parameters == other.parameters or share_a_model(model.recipe, other.recipe)
    # whole numbers: equal accuracies have exactly no spread
    over_seeds = (paired if is_paired else welch)(answers.sum(1), others.sum(1))
    over_images = bootstrap_images(answers, others)
    mixed = MIXED if len(model.auto_precisions | other.auto_precisions) > 1 else ""
    refusal = "; ".join(filter(None, (refusal, mixed)))
    return {
        "design": design(model.recipe, other.recipe, kinds),
        "seeds": len(seeds),
        "test_images": images,
        "difference": float(answers.sum(1).mean() - others.sum(1).mean()) / images,
        "test": ("paired" if is_paired else "Welch") if len(seeds) > 1 else None,
        "low": over_seeds.low / images if over_seeds.low is not None else None,
        "high": over_seeds.high / images if over_seeds.high is not None else None,
        "p": over_seeds.p,
        "image_low": over_images.low,
        "image_high": over_images.high,
        "p_images": over_images.p,
        "note": _note(model, other, len(seeds), over_seeds, refusal),
        "refused": bool(refusal),
        "over_seeds": over_seeds,
        "over_images": over_images,
    }


def _answers(correct: Answers, dataset: str, seeds: list[int], recipe: str) -> np.ndarray:
    """Return whether each test image is classified correctly under each seed, boolean (S, M)."""
    cells = [Cell(dataset, seed, recipe) for seed in seeds]
    if missing := [cell for cell in cells if cell not in correct]:
        raise UserError(f"no predictions of {dataset} seed {missing[0].seed}: {recipe}, which the table has")
    return np.stack([correct[cell] for cell in cells])


def share_a_model(recipe: str, reference: str) -> bool:
    """Return whether under each seed both descend from one model of that seed, or one from the other.

    A root that all seeds share does not count: it is a constant and brings the two no nearer.
    """
    alike = [stage == its for stage, its in zip(stages(recipe), stages(reference), strict=False)]
    common = alike.index(False) if False in alike else len(alike)
    return common > int(pairs.shares_root(recipe))


def design(recipe: str, reference: str, kinds: dict[str, str]) -> str:
    """Return whether the two recipes have a teacher per seed or one that all seeds share.

    A root of the seed without a distilled descendant (``hard`` against a student) does not count, unless both roots
    have one name.
    """
    recipes = (recipe, reference)
    same_root = len({name_of(stages(path)[0]) for path in recipes}) == 1
    relevant = [path for path in recipes if same_root or pairs.shares_root(path) or _is_distilled(path, kinds)]
    shared = {pairs.shares_root(path) for path in relevant or recipes}
    if len(shared) > 1:
        return "own and shared teacher"
    return "shared teacher" if shared.pop() else "own teacher"


def _is_distilled(recipe: str, kinds: dict[str, str]) -> bool:
    return any(KINDS[kinds[name_of(stage)]].learns_from == "parent" for stage in stages(recipe))


def _note(model: pd.Series, other: pd.Series, seeds: int, over_seeds: Outcome, refusal: str) -> str | None:
    if seeds == 1:
        return "; ".join(filter(None, (SINGLE_SEED, refusal)))
    recipes = (model.recipe, other.recipe)
    constant = [path for path in recipes if not parent(path) and pairs.shares_root(path)]
    notes = [*(f"{path} is one model under all seeds" for path in constant), refusal]
    if over_seeds.p is None:
        notes.append("the same difference under all seeds: no test over them")
    return "; ".join(filter(None, notes)) or None


def corrected(comparisons: list[dict], family: list[str]) -> list[dict]:
    """Return the rows with what depends on their family, all that agree in the keys ``family``.

    These are Holm's corrections, the smallest detectable difference and the verdict; refused rows do not count.
    """
    families: dict[tuple, list[dict]] = {}
    for row in comparisons:
        if not row["refused"]:
            families.setdefault(tuple(row[key] for key in family), []).append(row)
    for rows in families.values():
        levels = []
        for name in ("p", "p_images"):
            p_values = [row[name] for row in rows]
            levels.append(SIGNIFICANT / max(1, sum(p is not None for p in p_values)))
            for row, p in zip(rows, holm(p_values), strict=True):
                row[f"{name}_holm"] = p
        for row in rows:
            row |= {"detectable": _detectable(row, *levels), "verdict": _verdict(row)}
    return comparisons


def _detectable(row: dict, level: float, image_level: float) -> float | None:
    """Return the larger of the differences detectable over seeds, whose test counts images, and over images."""
    over_seeds, over_images = row["over_seeds"].detectable(level), row["over_images"].detectable(image_level)
    return max(filter(None, (over_seeds and over_seeds / row["test_images"], over_images)), default=None)


def _verdict(row: dict) -> str | None:
    if row["p_holm"] is None:
        return None
    if max(row["p_holm"], row["p_images_holm"]) >= SIGNIFICANT:
        return "undecided"
    return "better" if row["difference"] > 0 else "worse"
