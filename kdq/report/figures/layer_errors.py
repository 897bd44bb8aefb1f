"""Errors of the layers.

Relative output error of each quantized layer on the calibration images, in order of execution (shortcut convolutions
before the others of their block): the Frobenius norm of the float layer's outputs less those of the quantized network's
layer, over that of the float layer's outputs. The quantized layer gets the outputs of the quantized layers before it,
so accumulated errors are included. Logarithmic axis; mean over seeds. If a panel has no room for the names of all
layers, the first of each block is named.
"""

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from kdq.recipe.path import parent, stages
from kdq.report.bits import in_words, mean_bits, nearest_tenth, without_bits
from kdq.report.figures import Figure, style
from kdq.report.tables.layers import SCHEMA

FIGURE = Figure(shows="with_layer_errors", table="layers")
read = SCHEMA.read

NAME_INCHES = 0.085  # of a layer's name along the axis
NAMES_INCHES = 0.95  # of the longest name below it
PANEL_INCHES = 1.15
LEGEND_LETTERS = 30


def in_order_of_execution(layers: pd.DataFrame) -> pd.DataFrame:
    """Return the layers of a network in execution order: the table's, but a ResNet's shortcuts are first in a block."""
    names = layers.layer.tolist()

    def place(index: int) -> tuple[int, bool]:
        block, shortcut, _ = names[index].partition(".downsample.")
        first = next(name for name in names if name.startswith(f"{block}.")) if shortcut else names[index]
        return names.index(first), not shortcut

    return layers.iloc[sorted(range(len(names)), key=place)]


def series(table: pd.DataFrame) -> dict[tuple[str, float, str], np.ndarray]:
    """Return for each (parent, mean bits, quantizer) the errors of its layers in order, mean over the seeds."""
    errors: dict[tuple, list] = {}
    for (recipe, _), run in table.groupby(["recipe", "seed"]):
        layers = in_order_of_execution(run)
        quantized = layers[layers.relative_error.notna()]  # a layer that stays float is a gap
        bits = nearest_tenth(mean_bits(quantized[["bits", "weights"]].to_dict("records")))
        group = parent(recipe), bits, without_bits(stages(recipe)[-1])
        errors.setdefault(group, []).append(layers.relative_error.to_numpy())
    return {group: np.mean(runs, axis=0) for group, runs in errors.items()}


def layer_names(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return for each parent the names of its layers in order, as :func:`series` has their errors."""
    first = table.groupby("recipe").seed.transform("min") == table.seed
    runs = {recipe: in_order_of_execution(run).layer.tolist() for recipe, run in table[first].groupby("recipe")}
    return {parent(recipe): names for recipe, names in runs.items()}


def draw(table: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the table of layers, of all seeds; retrained models have no such errors."""
    measured = table.groupby(["dataset", "recipe", "seed"]).relative_error.transform("count") > 0
    table = table[(table.dataset == dataset) & measured]
    lines = series(table)
    parents = style.in_order({network for network, _, _ in lines})
    widths = sorted({bits for _, bits, _ in lines})
    quantizers = sorted({quantizer for _, _, quantizer in lines})
    names = layer_names(table)
    named = [names[network] != names.get(below) for network, below in zip(parents, [*parents[1:], None], strict=True)]
    keys = [
        style.key(style.wrapped(in_words(quantizer), LEGEND_LETTERS), **_look(index))
        for index, quantizer in enumerate(quantizers)
    ]
    width = max(style.WIDTH_INCHES, 1.5 * len(widths)) if len(widths) > 1 else 4.5
    columns = style.legend_columns([key.get_label() for key in keys], width)
    lines_below = -(-sum(key.get_label().count("\n") + 1 for key in keys) // columns)
    height = 0.9 + 0.2 * lines_below + PANEL_INCHES * len(parents) + NAMES_INCHES * sum(named)
    with style.styled():
        figure = style.new_figure(width, max(2.9, height))
        panels = figure.subplots(len(parents), len(widths), sharex="row", sharey=True, squeeze=False)
        for row, network, is_named in zip(panels, parents, named, strict=True):
            for panel, bits in zip(row, widths, strict=True):
                _draw_panel(panel, {name: lines.get((network, bits, name)) for name in quantizers})
                _name_layers(panel, names[network] if is_named else [], (width - 0.8) / len(widths))
        _label(panels, parents, widths)
        figure.legend(handles=keys, loc="outside lower center", ncols=columns, handlelength=3.2)
        figure.suptitle(f"{dataset}: relative output error of each quantized layer ({style.seeds_text(table)})")
        figure.supylabel("relative output error (share of 1)", fontsize=9)
    return figure


def _look(index: int) -> dict:
    thin = {"markersize": 2.4, "linewidth": 0.9, "markeredgewidth": 0.6}
    return {**style.of_network(index), **style.of_quantizer(index), **thin}


def _draw_panel(panel, lines: dict) -> None:
    panel.set_yscale("log")
    for index, errors in enumerate(lines.values()):
        if errors is not None:
            panel.plot(range(1, len(errors) + 1), errors, **_look(index))
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _name_layers(panel, names: list[str], width_inches: float) -> None:
    """Mark layers on the x axis of a panel by their names, as many as there is room for; without ``names`` none.

    First layers of stages come first, then those of blocks.
    """
    blocks = [name.rpartition(".")[0] or name for name in names]
    stages_of = [name.partition(".")[0] for name in names]
    heads = [(stages_of.index(stage), blocks.index(block)) for stage, block in zip(stages_of, blocks, strict=True)]
    rank = [sum(head != place for head in heads[place]) for place in range(len(names))]
    gap, places = len(names) * NAME_INCHES / width_inches, []
    for place in sorted(range(len(names)), key=lambda place: (rank[place], place)):
        if all(abs(place - marked) >= gap for marked in places):
            places.append(place)
    panel.set_xticks([place + 1 for place in places], [names[place] for place in places], rotation=90, fontsize=5.5)
    panel.tick_params(axis="x", labelbottom=bool(names), length=2)


def _label(panels, parents: list[str], widths: list[float]) -> None:
    names = style.labels(parents)
    for panel, bits in zip(panels[0], widths, strict=True):
        panel.set_title(f"{bits} bits")
    for panel in panels[-1]:
        panel.set_xlabel("layer, in order")
    for row, network in zip(panels, parents, strict=True):
        row[0].set_ylabel(style.wrapped(names[network], 16), fontsize=8)
