"""Accuracy against bits.

Test accuracy against bits per weight, one panel per network, with the lines of all other networks in grey. The
horizontal line is the float network. The axis widens towards 100 %, so that differences of a per cent between good
networks are visible beside the collapse at few bits. Bars are the sample standard deviation over seeds, if there are
several. Points of two quantizers at one width are drawn side by side. If there are too many quantizers for lines alone,
colours tell them apart instead of networks.
"""

import math

import numpy as np
import pandas as pd

from kdq.report.bits import in_words
from kdq.report.figures import Figure, style
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="quantized", table="summary")
read = SCHEMA.read

FLOAT = 32
ASIDE = 0.09  # from one quantizer's point to the next, in units of the axis
COLUMNS = 3  # of panels
WIDEST = 0.5  # from the first quantizer's point to the last


def draw(summary: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the summary; networks without a quantized cell are left out."""
    rows = summary[summary.dataset == dataset].sort_values("bits", kind="stable")
    quantized = rows[rows.quantizer != "none"]
    networks = style.in_order(set(quantized.network))
    quantizers = sorted(set(quantized.quantizer))
    positions = _positions(quantized.bits)
    lines = {
        (network, quantizer): rows[(rows.network == network) & (rows.quantizer == quantizer)]
        for network in networks
        for quantizer in ("none", *quantizers)
    }
    many = len(quantizers) > len(style.LINES)
    look_of = style.of_curve if many else style.of_quantizer
    looks = {quantizer: look_of(index) for index, quantizer in enumerate(quantizers)}
    # The legend takes the room of a panel, or stands below them all if it is long or no row has room left.
    below = many or len(networks) % COLUMNS == 0
    count = len(networks) + (not below)
    columns = min(COLUMNS, count)
    panel_rows = -(-count // columns)
    with style.styled():
        keys = _legend_keys(looks, alone=len(networks) == 1)
        legend_columns = style.legend_columns([key.get_label() for key in keys])
        legend_lines = -(-len(keys) // legend_columns) if below else 0
        figure = style.new_figure(style.WIDTH_INCHES, 0.7 + 1.95 * panel_rows + 0.2 * legend_lines + 0.5 * below)
        panels = figure.subplots(panel_rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        names = style.labels(networks)
        for index, (panel, network) in enumerate(zip(panels, networks, strict=False)):
            _draw_others(panel, lines, network, positions)
            _draw_network(panel, lines, network, looks, positions, style.of_network(index))
            panel.set_title(style.wrapped(names[network], 32))
        _set_axes(panels, len(networks), columns, positions)
        if below:
            figure.legend(handles=keys, loc="outside lower center", ncols=legend_columns, handlelength=3.2)
        else:
            panels[len(networks)].legend(handles=keys, loc="center", handlelength=3.2)
        for panel in panels[len(networks) :]:
            panel.axis("off")
        figure.suptitle(f"{dataset}: test accuracy against bits per weight ({style.seeds_text(rows)})")
    return figure


def _positions(widths) -> dict[int, int]:
    """Return the positions of whole bits on the axis, evenly spaced; a mean is drawn between its neighbours."""
    whole = {end(bits) for bits in widths for end in (math.floor, math.ceil)}
    return {bits: position for position, bits in enumerate(sorted(whole | {FLOAT}))}


def _draw_others(panel, lines: dict, network: str, positions: dict) -> None:
    for (drawn, quantizer), rows in lines.items():
        if drawn != network and quantizer != "none":
            x, y = _coordinates(rows, positions)
            panel.plot(x, y, color="#d6d6d6", linewidth=0.8, zorder=1)


def _draw_network(panel, lines: dict, network: str, looks: dict, positions: dict, look: dict) -> None:
    for row in lines[network, "none"].fillna({"test_top1_std": 0}).itertuples():
        accuracy = 100 * row.test_top1_mean
        panel.axhline(accuracy, color=look["color"], linewidth=0.7, zorder=1.5)
        panel.errorbar(positions[FLOAT], accuracy, 100 * row.test_top1_std, capsize=2, **look)
    last = len(looks) - 1
    aside = min(ASIDE, WIDEST / max(last, 1))
    for index, (quantizer, of_quantizer) in enumerate(looks.items()):
        rows = lines[network, quantizer]
        x, y = _coordinates(rows, positions)
        x = x + aside * (index - last / 2)  # a little to the side, so that neither error bar hides the other
        deviations = 100 * rows.test_top1_std.fillna(0)
        container = panel.errorbar(x, y, deviations, capsize=2, elinewidth=0.8, **{**look, **of_quantizer})
        container.lines[0].set_zorder(3)


def _coordinates(rows: pd.DataFrame, positions: dict) -> tuple:
    return np.interp(rows.bits, list(positions), list(positions.values())), 100 * rows.test_top1_mean.to_numpy()


def _set_axes(panels, count: int, columns: int, positions: dict) -> None:
    style.accuracy_axis(panels[:count])
    words = ["float" if bits == FLOAT else str(bits) for bits in positions]
    for index, panel in enumerate(panels[:count]):
        panel.set_xticks(list(positions.values()), words)
        panel.set_xlim(-0.4, len(positions) - 0.6)
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("bits per weight")
        if index % columns == 0:
            panel.set_ylabel(f"test accuracy (%){style.STRETCHED}")


def _legend_keys(looks: dict, alone: bool) -> list:
    look = {"color": "black", "marker": "o"}
    keys = [
        style.key(style.wrapped(in_words(quantizer), 30), **{**look, **of_quantizer})
        for quantizer, of_quantizer in looks.items()
    ]
    keys.append(style.key("float network", color="black", marker="o", linewidth=0.7))
    if not alone:
        keys.append(style.key("the other networks", color="#d6d6d6", linewidth=0.8))
    return keys
