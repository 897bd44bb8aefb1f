"""Accuracy against milliseconds.

Test accuracy of the ONNX file against the time of one image in a batch of its own, on a logarithmic axis, one panel per
runtime and processor: times of two processors are not comparable. A vertical tick is the float network in bfloat16,
which needs no quantization, joined to it in float32; its accuracy was not measured, it is drawn at the same height. The
Pareto front is chosen on the validation part (up to 5 % more time counts as the same), and drawn at the test accuracy
of the models that are on it: points may lie above. It is numbered, with names on the right. Times are medians over
rounds, and means over seeds; bars are the sample standard deviation of the accuracy over seeds, if there are several.
Models that were timed on a busy machine have no times and are left out.
"""

import pandas as pd

from kdq.report.figures import Figure, fronts, style
from kdq.report.tables.deployment import MACHINE, SAME_TIME, SCHEMA, TORCH

FIGURE = Figure(shows="timed", table="deployment")
read = SCHEMA.read

PANEL_INCHES = 3.1


def draw(table: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the table of deployment: a panel per runtime and processor."""
    rows = table[(table.dataset == dataset) & table.latency_ms.notna() & (table.runtime != TORCH)]
    if rows.empty:
        # that the machine was busy is known only after it was measured
        return style.empty_figure(f"{dataset}: no model was timed, the machine was too busy")
    points = _points(rows)
    looks = fronts.Looks(points)
    panels_of = {machine: group for machine, group in points.groupby(MACHINE)}
    chosen = {machine: fronts.front(group, SAME_TIME) for machine, group in panels_of.items()}
    numbers = {recipe: None for recipes in chosen.values() for recipe in recipes}
    numbers = {recipe: number for number, recipe in enumerate(numbers, 1)}
    with style.styled():
        keys = [*looks.keys(), *_bfloat16_keys(points), *fronts.front_keys(points, numbers, looks.names)]
        figure = style.new_figure(style.WIDTH_INCHES, fronts.height(keys, 0.5 + PANEL_INCHES * len(panels_of)))
        panels = figure.subplots(len(panels_of), sharex=True, sharey=True, squeeze=False)[:, 0]
        for panel, (machine, group) in zip(panels, panels_of.items(), strict=True):
            _draw_bfloat16(panel, group, looks)
            fronts.draw(panel, group, looks, numbers, chosen[machine])
            panel.set_title(_title(*machine))
            panel.set_ylabel(fronts.ACCURACY)
        style.accuracy_axis(panels)
        fronts.cost_axis(panels[-1], pd.concat([points.cost, points.bfloat16_ms.dropna()]))
        panels[-1].set_xlabel("time of one image (milliseconds, batch of 1)")
        figure.suptitle(f"{dataset}: test accuracy against time ({style.seeds_text(rows)})")
        figure.legend(handles=keys, loc="outside right upper", fontsize=7, handlelength=1.8, labelspacing=0.35)
    return figure


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one point per machine, runtime and recipe: means over the seeds."""
    groups = rows.groupby([*MACHINE, "recipe"], as_index=False)
    points = groups[["network", "quantizer", "activation_bits"]].first()
    means = groups[["latency_ms", "onnx_test_top1", "validation_top1", "bits", "bfloat16_ms"]].mean()
    return points.assign(
        cost=means.latency_ms,
        accuracy=100 * means.onnx_test_top1,
        deviation=100 * groups.onnx_test_top1.std().onnx_test_top1.fillna(0),
        validation=means.validation_top1,
        bits=means.bits,
        bfloat16_ms=means.bfloat16_ms,
    )


def _draw_bfloat16(panel, points: pd.DataFrame, looks: fronts.Looks) -> None:
    """Draw the float networks with quantized descendants in bfloat16, each joined to its time in float32."""
    floats = points[(points.quantizer == "none") & points.network.isin(looks.with_bits) & points.bfloat16_ms.notna()]
    for point in floats.itertuples():
        color = looks.of(point)["color"]
        ends = [point.cost, point.bfloat16_ms]
        panel.plot(ends, [point.accuracy] * 2, color=color, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=2)
        panel.plot(ends[1:], [point.accuracy], color=color, marker="|", markersize=11, markeredgewidth=1.8, zorder=4)


def _bfloat16_keys(points: pd.DataFrame) -> list:
    floats = points[(points.quantizer == "none") & points.bfloat16_ms.notna()]
    if floats.empty:
        return []
    text = "the float network in bfloat16, in the same runtime"
    look = {"color": "black", "marker": "|", "markersize": 9, "markeredgewidth": 1.8, "linewidth": 0.8}
    return [style.key(style.wrapped(text, fronts.LEGEND_WIDTH), **look, linestyle=(0, (1, 1.5)))]


def _title(processor: str, threads: int, runtime: str, version: str) -> str:
    count = "1 thread" if threads == 1 else f"{threads} threads"
    return style.wrapped(f"{runtime} {version}, {count}, {processor}", 56)
