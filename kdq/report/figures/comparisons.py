"""Differences between students.

Differences of test accuracy between the float students and their control, the student of their size trained on labels
alone (without one, the first root), in percentage points. The thick bar is the 95 % interval over seeds by the t test
named in the table of comparisons, the thin one with caps the 95 % interval over test images by the paired bootstrap.
Neither bar is corrected for the number of comparisons; the p-value on the right is, by Holm: the larger of the two. A
black mark is better or worse than the control in both, an open one is undecided, which is not equal: a true difference
as small as the shaded ones, whose half width is on the right, would have been missed more often than once in five. A
single seed gives only the interval over images, which does not generalize to other seeds: the mark is grey, without a
verdict. The table has every planned contrast.
"""

import math

import numpy as np
import pandas as pd

from kdq.report import pairs
from kdq.report.figures import Figure, style
from kdq.report.tables.comparisons import SCHEMA

FIGURE = Figure(shows="students", table="comparisons")
read = SCHEMA.read

_OFFSET = 0.17  # of a row, between its two bars
_DOT = {"color": "black", "marker": "o", "markersize": 5, "linestyle": "none"}
_WORD = {"textcoords": "offset points", "va": "center", "fontsize": 8, "annotation_clip": False}


def draw(comparisons: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the comparisons."""
    rows = comparisons[(comparisons.dataset == dataset) & (comparisons.family == "control")]
    rows = rows[rows.recipe.isin(pairs.students({*rows.recipe, *rows.other}))]
    rows = rows.sort_values("difference", kind="stable").assign(filling=style.fillings)
    names, controls = style.labels(rows.recipe), style.labels(rows.other.unique())
    against = next(iter(controls.values())) if len(controls) == 1 else "the control of their size"
    words = [
        names[row.recipe] + (f" \N{MINUS SIGN} {controls[row.other]}" if len(controls) > 1 else "")
        for row in rows.itertuples()
    ]
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 1.3 + 0.3 * len(rows))
        panel = figure.subplots()
        panel.axvline(0, color="black", linewidth=0.9)
        for height, row in enumerate(rows.itertuples()):
            _draw_row(panel, height, row)
        style.draw_undetectable(panel, range(len(rows)), 100 * rows.detectable)
        _write(panel, len(rows) - 0.25, "points", "p, Holm", "detectable", fontstyle="italic")
        panel.set_yticks(range(len(rows)), [style.wrapped(text, 34) for text in words])
        panel.set_ylabel("student")
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        panel.set_xlabel(f"difference of test accuracy from {against} (percentage points)")
        seeds = style.seeds_text(rows)
        images = f"{rows.test_images.iloc[0]:,} test images"
        figure.suptitle(f"{dataset}: students against {against} ({seeds}, {images})")
        keys = [*style.interval_keys(rows, seeds_width=2.6), *style.verdict_keys(rows, **_DOT)]
        figure.legend(handles=keys, loc="outside lower center", ncols=2, handlelength=2.4)
    return figure


def _draw_row(panel, height: int, row) -> None:
    difference = 100 * row.difference
    over_seeds = not math.isnan(row.low)
    offset = _OFFSET if over_seeds else 0  # a single bar is on the row's line
    low, high = 100 * row.image_low, 100 * row.image_high
    lengths, look = [[max(difference - low, 0)], [max(high - difference, 0)]], {"color": style.IMAGES_COLOUR}
    panel.errorbar(difference, height - offset, xerr=lengths, linewidth=1.0, capsize=2.5, zorder=2, **look)
    if over_seeds:
        panel.plot([100 * row.low, 100 * row.high], [height + offset] * 2, color=style.SEEDS_COLOUR, linewidth=2.6)
    panel.plot(difference, height, **_DOT, markerfacecolor=row.filling, zorder=4)
    p = np.fmax(row.p_holm, row.p_images_holm)  # of one seed only the latter is known
    detectable = f"± {100 * row.detectable:.2f}" if row.detectable == row.detectable else ""
    _write(panel, height, f"{difference:+.2f}".replace("-", "\N{MINUS SIGN}"), _p_text(p), detectable)


def _write(panel, height: float, difference: str, p: str, detectable: str, **look) -> None:
    """Write three words right of the panel, in columns."""
    for text, points, side in ((difference, 38, "right"), (p, 46, "left"), (detectable, 132, "right")):
        beside = {"xycoords": panel.get_yaxis_transform(), "ha": side}
        panel.annotate(text, (1, height), (points, 0), **beside, **_WORD, **look)


def _p_text(p: float) -> str:
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
