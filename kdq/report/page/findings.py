"""The findings of a study, in words from its tables and never wider than they are: the headline of its page.

What is chosen is chosen on the validation part; differences are of the test part, with the intervals and verdicts of
``comparisons.csv``, or by the same statistics if that has no such pair.
"""

from dataclasses import dataclass, field

import pandas as pd

from kdq.recipe.kinds import KINDS
from kdq.recipe.path import Cell, parent
from kdq.report import fastest, pairs
from kdq.report.bits import nearest_tenth
from kdq.report.page.sources import Sources
from kdq.report.tables import comparisons

NEARLY = fastest.NEARLY
MOST_PRUNED = 4  # models that are told of
VERDICTS = ("better", "undecided", "worse")


@dataclass(frozen=True)
class Contrast:
    """A difference of test accuracy in points, its interval and verdict; ``note`` tells what they rest on.

    ``detectable`` is the least difference that would have been told from chance, see ``comparisons.csv``.
    """

    recipe: str
    other: str
    difference: float
    low: float
    high: float
    verdict: str
    note: str
    detectable: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that a study shows: a title, a sentence, and the contrasts that it rests on."""

    title: str
    text: str
    contrasts: list[Contrast] = field(default_factory=list)


class Findings:
    """The findings of one data set of a study."""

    def __init__(self, sources: Sources, dataset: str):
        self.dataset, self.kinds = dataset, sources.kinds
        compared, self._table = sources.tables["comparisons"], sources.tables["table"]
        self._table = self._table[self._table.dataset == dataset]
        self._compared = compared[compared.dataset == dataset]
        self._deployment = sources.tables.get("deployment")
        labels = sources.parts[dataset].labels
        predicted = {cell: classes for cell, classes in sources.predicted.items() if cell.dataset == dataset}
        self._correct: dict[Cell, object] = {cell: classes == labels for cell, classes in predicted.items()}
        self.models = comparisons.described(self._table)
        self.floats = self.models[self.models.quantizer == "none"]
        self.quantized = self.models[self.models.quantizer != "none"]

    def all(self) -> list[Finding]:
        """Return the headline, and after it what else the study tells."""
        made = (self.headline(), self.distilled(), self.at_equal_compute(), self.widths(), self.quantizers())
        return [finding for finding in (*made, self.pruned(), self.speed()) if finding]

    def contrast(self, recipe: str, other: str, label: str = "") -> Contrast:
        """Return the difference between two models: of the table of comparisons, else by its statistics."""
        alike = self._compared[(self._compared.recipe == recipe) & (self._compared.other == other)]
        # of several families the one that corrects for the most comparisons
        row = alike.sort_values("p_holm", ascending=False).iloc[0] if len(alike) else self._fresh(recipe, other)
        over_seeds = pd.notna(row["low"])
        ends = ("low", "high") if over_seeds else ("image_low", "image_high")
        low, high = sorted(100 * float(row[end]) for end in ends)
        verdict = row["verdict"] if pd.notna(row["verdict"]) else ""
        seeds, images = int(row["seeds"]), int(row["test_images"])
        basis = f"over {seeds} seeds" if over_seeds else f"over {images:,} test images, of a single seed"
        basis = basis if over_seeds or seeds == 1 else f"over {images:,} test images, not over seeds"
        detectable = 100 * float(row["detectable"]) if pd.notna(row.get("detectable")) else None
        return Contrast(recipe, other, 100 * float(row["difference"]), low, high, verdict, basis, detectable, label)

    def _fresh(self, recipe: str, other: str) -> dict:
        row = comparisons.difference(self.models.loc[recipe], self.models.loc[other], self.kinds, self._correct)
        return comparisons.corrected([row], [])[0] if not row["refused"] else row | {"verdict": None}

    def headline(self) -> Finding:
        """Return what the smallest quantized model saves and costs that is within a point of the best float network."""
        best = pairs.best(self.floats)
        if self.quantized.empty:
            title = f"{best.recipe} is the most accurate of {len(self.floats):,} networks: {_percent(best)}"
            return Finding(title, f"Chosen on validation, reported on test ({best.note}). Nothing is quantized.")
        smaller = self.quantized[self.quantized.file_bytes_mean < best.file_bytes_mean]
        near = smaller[smaller.validation_top1_mean >= best.validation_top1_mean - NEARLY]
        if near.empty:
            nearest = self.contrast(pairs.best(self.quantized if smaller.empty else smaller).recipe, best.recipe)
            title = "No smaller model stays within a point of the best float network"
            text = f"Nearest on validation is {nearest.recipe}: {in_words(nearest)} against {best.recipe}."
            return Finding(title, text, [nearest])
        small = near.sort_values(["file_bytes_mean", "validation_top1_mean", "recipe"], ascending=[True, False, True])
        small = small.iloc[0]
        contrast = self.contrast(small.recipe, best.recipe)
        times = best.file_bytes_mean / small.file_bytes_mean
        text = (
            f"{small.recipe} is the smallest model that is within a point of the best float network, {best.recipe}, "
            f"on validation: {_bytes(small)} instead of {_bytes(best)}. On test it has {_percent(small)} instead of "
            f"{_percent(best)}: {in_words(contrast)}."
        )
        return Finding(f"{times:.1f} times smaller{_at_a_price(contrast)}", text, [contrast])

    def distilled(self) -> Finding | None:
        """Return what distillation gives the best student against labels alone."""
        students = self.floats[self.floats.kind == "distill"]
        if students.empty or (student := pairs.best(students).recipe) not in (
            controls := pairs.controls_of(self.floats)
        ):
            return None
        contrast = self.contrast(student, controls[student])
        best = f"the best of {len(students):,} distilled students on validation" if len(students) > 1 else "distilled"
        text = f"{student}, {best}, has {in_words(contrast)} against {contrast.other}."
        return Finding(_title("Distillation", contrast), text, [contrast])

    def at_equal_compute(self) -> Finding | None:
        """Return whether labels alone do as well with the operations that distilling took."""
        best: dict[str, str] = {}
        for student, control in pairs.at_equal_compute(self.floats):
            best.setdefault(control, student)
            best[control] = pairs.best(self.floats[self.floats.recipe.isin([best[control], student])]).recipe
        controls = pairs.controls_of(self.floats)
        contrasts = [self.contrast(student, control, student) for control, student in best.items()]
        if not (contrasts := [made for made in contrasts if controls.get(made.recipe) != made.other]):
            return None
        text = "Students against labels alone with as many operations of training: "
        text += "; ".join(f"{made.recipe} has {in_words(made)} against {made.other}" for made in contrasts) + "."
        return Finding("At equal compute", text, contrasts)

    def widths(self) -> Finding | None:
        """Return what each number of bits costs the best of the networks that are quantized."""
        if self.quantized.empty:
            return None
        networks = self.floats[self.floats.recipe.isin(self.quantized.network)]
        if networks.empty:
            return None
        network = pairs.best(networks).recipe
        models = self.quantized[self.quantized.network == network]
        models = models.assign(nearest=models.bits.map(nearest_tenth))
        contrasts = []
        for (bits, activations), group in models.groupby(["nearest", "activation_bits"]):
            label = f"{bits:g} bits" + (f", activations {activations}" if activations < 32 else "")
            contrasts.append(self.contrast(pairs.best(group).recipe, network, label))
        text = f"The best quantizer on validation at each number of bits, against {network} in float."
        return Finding(f"What bits cost {network}", text, contrasts)

    def quantizers(self) -> Finding | None:
        """Return how often each quantizer is better than rounding to nearest, at the same network and bits."""
        rows = self._compared[self._compared.family == "quantizers"]
        if rows.empty:
            return None
        names = rows.recipe.map(self.models.quantizer_name)
        sentences = []
        for name, group in rows.groupby(names):
            counts = [f"{verdict} in {(group.verdict == verdict).sum()}" for verdict in VERDICTS]
            unknown = int(group.verdict.isna().sum())
            counts = [f"no verdict in {unknown}, of single seeds"] if unknown == len(group) else counts
            counts += [f"without a verdict in {unknown}"] if 0 < unknown < len(group) else []
            sentences.append(f"{name}: {', '.join(counts)} of {_many(len(group), 'comparison')}")
        text = f"At the same network and bits. {'; '.join(sentences)}."
        bits = rows.bits.map(nearest_tenth)
        least = rows[bits == bits.min()].sort_values("recipe")
        contrasts = [self.contrast(row.recipe, row.other, row.recipe) for row in least.itertuples()]
        return Finding("Quantizers against rounding to nearest", text, contrasts[:6])

    def pruned(self) -> Finding | None:
        """Return what the best pruned models have lost to those that they were pruned from."""
        models = self.models[self.models.kind.map(lambda kind: KINDS[kind].prunes)]
        models = models[models.recipe.map(parent).isin(self.models.recipe)]
        if models.empty:
            return None
        best = models.sort_values(["validation_top1_mean", "recipe"], ascending=[False, True])[:MOST_PRUNED]
        whole = self.models.loc[best.recipe.map(parent)]
        shares = [f"{share:.0%}" for share in best.file_bytes_mean.to_numpy() / whole.file_bytes_mean.to_numpy()]
        contrasts = [self.contrast(recipe, parent(recipe), recipe) for recipe in best.recipe]
        chosen = f"The {len(best)} best of {len(models)} pruned models" if len(best) < len(models) else "Pruned models"
        text = (
            f"{chosen} on validation against what they were pruned from; their files have {', '.join(shares)} of the "
            "bytes."
        )
        return Finding("What pruning costs", text, contrasts)

    def speed(self) -> Finding | None:
        """Return the quickest model within a point of its float network, per processor."""
        if self._deployment is None:
            return None
        lines = fastest.lines(self._deployment[self._deployment.dataset == self.dataset])
        text = "; ".join(line.removeprefix(f"{self.dataset}: ") for line in lines)
        return Finding("Speed", f"{text[0].upper()}{text[1:]}.") if lines else None


def in_words(contrast: Contrast) -> str:
    """Return a difference with its interval and verdict."""
    interval = f"95% interval {_points(contrast.low)} to {_points(contrast.high)} {contrast.note}"
    verdict = contrast.verdict or "no verdict"
    if verdict == "undecided" and contrast.detectable:
        verdict += f", as differences below {contrast.detectable:.1f} points are seldom seen here"
    return f"{_points(contrast.difference)} points ({interval}; {verdict})"


def _title(subject: str, contrast: Contrast) -> str:
    ending = {"better": "helps", "worse": "hurts", "undecided": "whether it helps is undecided", "": "no verdict"}
    return f"{subject}: {ending[contrast.verdict]}"


def _at_a_price(contrast: Contrast) -> str:
    points = f"{abs(contrast.difference):.1f} points"
    return {
        "better": f" and {points} more accurate",
        "worse": f" for {points} of accuracy",
        "undecided": "; whether accuracy is lost is undecided",
        "": f" at {_points(contrast.difference)} points of accuracy, without a verdict",
    }[contrast.verdict]


def _points(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _percent(model: pd.Series) -> str:
    return f"{100 * model.test_top1_mean:.1f}%"


def _bytes(model: pd.Series) -> str:
    return f"{model.file_bytes_mean / 1000:,.0f} kB"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
