"""Techniques in every order.

What was asked for in a study that prunes, each model named by what was done to its network, in this order: *prune*
(perhaps *with a teacher*), *quantize* (and train the quantized weights on labels), *round* (quantize and leave them),
*distil* (train with a teacher), *train* (on labels). One block per network, bits of weights and of activations (A8: 8
bits); in it the models in the order of their mean accuracy on the validation part, of which the star has the best.
Accuracy is that on the test part, with the 95 % interval of the mean over seeds (Student's), if there are several.
Sizes are of the model's file. Milliseconds, if the study has times, are those of one image in the ONNX file of the
first seed, the median over rounds, in the runtime that the axis names.
"""

import math
import re

import pandas as pd
from scipy.stats import t as student

from kdq.report.bits import nearest_tenth
from kdq.report.figures import Figure, style
from kdq.report.tables import deployment
from kdq.report.tables.deployment import TORCH
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="techniques", table="summary", beside="deployment", parameters=("techniques",))

ROW_INCHES, BLOCK_INCHES = 0.2, 0.42
NAME_LETTERS = 52
BLOCK = ["maker", "bits", "activation_bits"]


def read(summary, times=None) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the summary, and the table of deployment if the study has one."""
    return SCHEMA.read(summary), deployment.SCHEMA.read(times) if times else None


def draw(tables, dataset: str, techniques: dict[str, dict[str, str]]):
    """Draw the rows of one data set; ``techniques`` is what was done to each network, by recipe, see Contents."""
    summary, times = tables
    rows = summary[(summary.dataset == dataset) & summary.recipe.isin(techniques)]
    rows = rows.assign(
        bits=rows.bits.map(nearest_tenth),
        maker=[techniques[recipe]["network"] for recipe in rows.recipe],
        done=[techniques[recipe]["done"] for recipe in rows.recipe],
    )
    runtime, milliseconds = _times(times, dataset)
    rows["milliseconds"] = rows.recipe.map(milliseconds)
    blocks = [block.sort_values("validation_top1_mean") for _, block in rows.groupby(BLOCK, sort=True)]
    blocks.sort(key=lambda block: (block.maker.iloc[0], -block.bits.iloc[0]))
    columns = {"test accuracy (%)": _accuracies, "size (kB)": _sizes}
    columns |= {f"time of one image (ms)\n{runtime}": _milliseconds} if rows.milliseconds.notna().any() else {}
    heights = [BLOCK_INCHES + ROW_INCHES * len(block) for block in blocks]
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES + 1, 1.1 + sum(heights))
        grid = {"width_ratios": [1.6, *[1.0] * (len(columns) - 1)], "height_ratios": heights}
        panels = figure.subplots(len(blocks), len(columns), sharex="col", squeeze=False, gridspec_kw=grid)
        for block, row in zip(blocks, panels, strict=True):
            for panel, paint in zip(row, columns.values(), strict=True):
                paint(panel, block)
                panel.set_ylim(-0.6, len(block) - 0.4)
                panel.set_yticks(range(len(block)), [""] * len(block))
            row[0].set_yticks(range(len(block)), [_name(model, block) for model in block.itertuples()], fontsize=7)
            row[0].set_title(_title(block.iloc[0]), loc="left")
        figure.supylabel("what was done, in this order", fontsize=9)
        for panel, text in zip(panels[-1], columns, strict=True):
            panel.set_xlabel(text, fontsize=8)
        for panel in panels[:, 1:].flatten():
            panel.set_xlim(left=0)
        figure.suptitle(f"{dataset}: techniques in every order ({style.seeds_text(rows)})")
    return figure


def _times(times: pd.DataFrame | None, dataset: str) -> tuple[str, dict[str, float]]:
    """Return the name of the quickest runtime that has timed most models, and milliseconds by recipe."""
    if times is None:
        return "", {}
    rows = times[(times.dataset == dataset) & times.latency_ms.notna() & (times.runtime != TORCH)]
    if rows.empty:
        return "", {}
    _, chosen = max(
        rows.groupby(["runtime", "version"]), key=lambda group: (len(group[1]), -group[1].latency_ms.mean())
    )
    return " ".join(chosen[["runtime", "version"]].iloc[0]), chosen.groupby("recipe").latency_ms.first().to_dict()


def _accuracies(panel, block: pd.DataFrame) -> None:
    best = block.recipe.iloc[-1]  # by validation, in which order they are
    for height, model in enumerate(block.itertuples()):
        mean, half = 100 * model.test_top1_mean, _half_interval(model)
        if half:
            panel.plot(
                [max(mean - half, 0), min(mean + half, 100)], [height] * 2, color=style.SEEDS_COLOUR, linewidth=2
            )
        star = model.recipe == best
        panel.plot(mean, height, marker="*" if star else "o", color="black", markersize=9 if star else 4.5, zorder=3)


def _half_interval(model) -> float:
    """Return half the 95 % interval of the mean accuracy over seeds, in per cent; 0 for one seed."""
    if model.seeds < 2 or pd.isna(model.test_top1_std):
        return 0.0
    return 100 * student.ppf(0.975, model.seeds - 1) * model.test_top1_std / math.sqrt(model.seeds)


def _sizes(panel, block: pd.DataFrame) -> None:
    panel.barh(range(len(block)), block.file_bytes_mean / 1000, height=0.55, color=style.GREY)


def _milliseconds(panel, block: pd.DataFrame) -> None:
    panel.barh(range(len(block)), block.milliseconds.fillna(0), height=0.55, color=style.GREY)


def _name(model, block: pd.DataFrame) -> str:
    """Return what was done to a network, and what the title leaves of the recipe if that names several models."""
    said = re.split("[/,]", model.maker)
    own = [part for part in re.split("[/,]", model.recipe) if part not in said]
    if (block.done == model.done).sum() == 1 or not own:
        return model.done
    return style.wrapped(f"{model.done}: {', '.join(own)}", NAME_LETTERS)


def _title(model: pd.Series) -> str:
    bits = "float" if model.bits == 32 else style.bits_text(model.bits, model.activation_bits)
    return f"{model.maker.replace(',', ', ')}: {bits}"
