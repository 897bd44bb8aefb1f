"""The table of comparisons: for pairs of recipes the difference of test accuracy, and whether it may be chance."""

import numpy as np
import pandas as pd

from kdq.errors import UserError
from kdq.evaluate.significance import Outcome, bootstrap_images, holm, paired, welch
from kdq.recipe.kinds import KINDS
from kdq.recipe.path import Cell, name_of, parent, stages
from kdq.report import pairs, precisions
from kdq.report.bits import nearest_tenth
from kdq.report.tables.schema import Schema, bits_per_weight, count, number, share, text, truth

Answers = dict[Cell, np.ndarray]  # for each cell whether each test image is classified correctly, boolean (M,)

SIGNIFICANT = 0.05
MIXED = "trained in bfloat16 and in float32, as `precision: auto` was on unlike machines: no verdict"
SINGLE_SEED = "single seed: the bootstrap speaks of other test images alone, nothing of other seeds"

STATISTICS = {
    "design": text(
        "`own teacher`: a teacher per seed; `shared teacher`: one for all seeds (`teacher,seed=0/...`), so that the "
        "row does not generalize to other teachers; `own and shared teacher`: one of each"
    ),
    "seeds": count("number of seeds that both models have"),
    "test_images": count("size of the test part", unit="images"),
    "difference": share("accuracy of `recipe` less that of `other`, test part, mean over the seeds"),
    "test": text(
        "t test over seeds: `paired` if both descend from one model under each seed (the same teacher, the same float "
        "network), or one from the other; else `Welch`; empty for one seed",
        optional=True,
    ),
    "low": share("95% interval of the difference over seeds, by `test`, lower end", optional=True),
    "high": share("its upper end", optional=True),
    "p_welch": number(
        "p-value of Welch's t test over seeds, two-sided; empty if neither model has a spread", optional=True
    ),
    "p_paired": number(
        "p-value of the paired t test over seeds, two-sided; empty if all differences are equal", optional=True
    ),
    "p_holm": number("p-value of `test`, corrected by Holm within this data set and family", optional=True),
    "image_low": share("95% interval of the difference over test images, by the paired bootstrap, lower end"),
    "image_high": share("its upper end"),
    "p_images": number("p-value of the paired bootstrap over test images, two-sided"),
    "p_images_holm": number("`p_images`, corrected by Holm within this data set and family"),
    "within_noise": truth(
        f"`false` if `p_holm` and `p_images_holm` are both below {SIGNIFICANT}, else `true`; empty if no test over "
        "seeds is possible, and if `auto_precision` is mixed",
        optional=True,
    ),
    "note": text(
        "limits of the row: a single seed, the same difference under all seeds, one model under all seeds, "
        "`auto_precision` (of the two models under all seeds) is mixed",
        optional=True,
    ),
}
SCHEMA = Schema(
    "comparisons",
    "one row per data set and pair of recipes",
    {
        "dataset": text("data set"),
        "family": text(
            "`baseline`: float networks against `hard` (without one, the first root); `float`: among themselves; "
            "`networks`: quantized ones by one quantizer at the same bits; `quantizers`: of one network at the same "
            "bits, of weights and of activations; `activations`: by one quantizer at the same bits of weights and "
            f"fewer bits of activations. In a group of more than {pairs.ALL_PAIRS_UP_TO} models each is compared with "
            "the first alone"
        ),
        "recipe": text("the model"),
        "other": text("the model that it is compared with"),
        "bits": bits_per_weight("bits of both, to a tenth; 32 for float models"),
        "activation_bits": count("bits of the activations of `recipe`; 32 for float ones", unit="bits per activation"),
        "other_activation_bits": count("those of `other`", unit="bits per activation"),
        **STATISTICS,
    },
)


def rows(table: pd.DataFrame, kinds: dict[str, str], correct: Answers) -> pd.DataFrame:
    """Return the comparisons of the cells in ``table``, with the answers ``correct``; ``kinds`` as for the cells."""
    comparisons = []
    for dataset, group in table.sort_values(["dataset", "recipe", "seed"]).groupby("dataset"):
        seeds = group.groupby("recipe").seed.agg(set)
        models = group.drop_duplicates("recipe")
        bits = dict(zip(models.recipe, models.bits.map(nearest_tenth), strict=True))
        activation_bits = dict(zip(models.recipe, models.activation_bits, strict=True))
        by = precisions.by_recipe(group)
        for family, recipe, reference in pairs.choose(models):
            if common := sorted(seeds[recipe] & seeds[reference]):
                pair = {"dataset": dataset, "family": family, "recipe": recipe, "other": reference}
                pair |= {"bits": bits[recipe], "mixed": len(by[recipe] | by[reference]) > 1}
                pair["activation_bits"] = activation_bits[recipe]
                pair["other_activation_bits"] = activation_bits[reference]
                comparisons.append(pair | difference(pair, kinds, common, correct))
    return SCHEMA.frame(corrected(comparisons, ["dataset", "family"]))


def difference(pair: dict, kinds: dict[str, str], seeds: list[int], correct: Answers) -> dict:
    """Return the statistics of the recipes ``recipe`` and ``other`` of a ``dataset`` over the seeds that both have.

    ``pair`` says whether they are ``mixed``, trained in both values of `auto`.
    Holm's correction and the verdict are left to :func:`corrected`.
    """
    recipe, reference = pair["recipe"], pair["other"]
    answers, of_reference = (_answers(correct, pair["dataset"], seeds, path) for path in (recipe, reference))
    images = answers.shape[1]
    counts, reference_counts = answers.sum(1), of_reference.sum(1)  # whole: equal accuracies have exactly no spread
    by_welch, by_pairs = welch(counts, reference_counts), paired(counts, reference_counts)
    test = "paired" if share_a_model(recipe, reference) else "Welch"
    over_seeds = by_pairs if test == "paired" else by_welch
    over_images = bootstrap_images(answers, of_reference)
    return {
        "design": design(recipe, reference, kinds),
        "seeds": len(seeds),
        "test_images": images,
        "difference": float(counts.mean() - reference_counts.mean()) / images,
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
        "note": _note(pair, len(seeds), over_seeds),
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


def _note(pair: dict, seeds: int, over_seeds: Outcome) -> str | None:
    notes = [MIXED] if pair["mixed"] else []
    if seeds == 1:
        return "; ".join([SINGLE_SEED, *notes])
    constant = [path for path in (pair["recipe"], pair["other"]) if not parent(path) and pairs.shares_root(path)]
    notes = [*(f"{path} is one model under all seeds" for path in constant), *notes]
    if over_seeds.p is None:
        notes.append("the same difference under all seeds: no test over them")
    return "; ".join(notes) or None


def corrected(comparisons: list[dict], family: list[str]) -> pd.DataFrame:
    """Return the rows with Holm's corrections and the verdict; rows that agree in ``family`` are one family."""
    table = pd.DataFrame(comparisons, columns=None if comparisons else [*family, "mixed", *STATISTICS])
    for column in ("p_holm", "p_images_holm"):
        table[column] = table[column].astype("float64")
        for _, p in table.groupby(family, dropna=False)[column]:
            p = p.dropna()
            table.loc[p.index, column] = holm(p.tolist())
    noise = (table.p_holm >= SIGNIFICANT) | (table.p_images_holm >= SIGNIFICANT)
    return table.assign(within_noise=noise.astype("boolean").mask(table.p_holm.isna() | table.mixed.astype(bool)))
