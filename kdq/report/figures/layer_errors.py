"""Figure: each quantized layer's relative output error in order of execution, a row a network, a column a bit-width."""

import re
from itertools import groupby
from statistics import fmean

from matplotlib.ticker import MaxNLocator

from kdq.report.bits import mean_bits, nearest_tenth, without_bits
from kdq.report.figures import style

LAYER = re.compile(r"layer(\d+)\.(\d+)\.(?:(downsample)|conv(\d+))")


def in_order_of_execution(layers: list[dict]) -> list[dict]:
    """The layers of a residual network as they run; the table has them as the network lists them.

    The first convolution, the blocks, each with its shortcut first, and the classifier.
    """

    def order(layer):
        found = LAYER.match(layer["layer"])
        if not found:
            return (float("inf"),) if layer["layer"] == "fc" else (0,)
        stage, block, shortcut, convolution = found.groups()
        return int(stage), int(block), 0 if shortcut else int(convolution)

    return sorted(layers, key=order)


def series(table: list[dict]) -> dict[tuple[str, float, str], list[float]]:
    """For each (parent, mean bits, quantizer) the errors of its layers in order, each the mean over the seeds."""
    errors: dict[tuple, list[list[float]]] = {}
    for (recipe, _), rows in groupby(table, lambda row: (row["recipe"], row["seed"])):
        parent, stage = recipe.rsplit("/", 1)
        layers = in_order_of_execution(list(rows))
        group = parent, nearest_tenth(mean_bits(layers)), without_bits(stage)
        errors.setdefault(group, []).append([layer["relative_error"] for layer in layers])
    return {group: [fmean(layer) for layer in zip(*runs, strict=True)] for group, runs in errors.items()}


def draw(table: list[dict], dataset: str):
    """The figure of one data set's rows of the table of layers, of all seeds; retrained models have no such errors."""
    table = [row for row in table if row["dataset"] == dataset and row["relative_error"] is not None]
    lines = series(table)
    parents = style.in_order({parent for parent, _, _ in lines})
    widths = sorted({bits for _, bits, _ in lines})
    quantizers = sorted({quantizer for _, _, quantizer in lines})
    with style.styled():
        width = max(style.WIDTH_INCHES, 1.5 * len(widths)) if len(widths) > 1 else 4.5
        figure = style.new_figure(width, max(2.9, 1.1 + 1.25 * len(parents)))
        panels = figure.subplots(len(parents), len(widths), sharex="row", sharey=True, squeeze=False)
        for row, parent in zip(panels, parents, strict=True):
            for panel, bits in zip(row, widths, strict=True):
                _draw_panel(panel, lines, parent, bits, quantizers)
        _label(panels, parents, widths)
        keys = [style.key(quantizer.replace(",", ", "), **_look(index)) for index, quantizer in enumerate(quantizers)]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(4, len(keys)), handlelength=3.2)
        seeds = style.seeds_text(len({row["seed"] for row in table}))
        figure.suptitle(f"{dataset}: relative output error of each quantized layer ({seeds})")
        figure.supylabel("relative output error (share of 1)", fontsize=9)
    return figure


def _look(index: int) -> dict:
    return {
        "color": style.COLOURS[index % len(style.COLOURS)],
        **style.of_quantizer(index),
        "marker": style.MARKERS[index % len(style.MARKERS)],
        "markersize": 2.4,
        "linewidth": 0.9,
        "markeredgewidth": 0.6,
    }


def _draw_panel(panel, lines: dict, parent: str, bits: float, quantizers: list[str]) -> None:
    panel.set_yscale("log")
    panel.minorticks_off()
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    for index, quantizer in enumerate(quantizers):
        errors = lines.get((parent, bits, quantizer))
        if errors:
            panel.plot(range(1, len(errors) + 1), errors, **_look(index))


def _label(panels, parents: list[str], widths: list[float]) -> None:
    names = style.labels(parents)
    for panel, bits in zip(panels[0], widths, strict=True):
        panel.set_title(f"{bits} bits")
    for panel in panels[-1]:
        panel.set_xlabel("layer, in order")
    for row, parent in zip(panels, parents, strict=True):
        row[0].set_ylabel(style.wrapped(names[parent], 16), fontsize=8)
