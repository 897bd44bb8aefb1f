"""Figure: test accuracy against bits a weight, one panel a network, all others behind it in grey.

A panel's title names its network, so where lines alone can't tell the quantizers apart the colours are theirs.
"""

import math

import numpy as np

from kdq.report.figures import style

FLOAT = 32
ASIDE = 0.09  # from one quantizer's point to the next one's, in places of the axis
COLUMNS = 3  # of panels
LEGEND_COLUMNS = 3
WIDEST = 0.5  # from the first one's to the last one's


def draw(summary: list[dict], dataset: str):
    """The figure of one data set's rows of the summary; networks without a quantized cell are left out."""
    rows = [row for row in summary if row["dataset"] == dataset]
    quantized = [row for row in rows if row["quantizer"] != "none"]
    networks = style.in_order({row["network"] for row in quantized})
    quantizers = sorted({row["quantizer"] for row in quantized})
    places = _places(row["bits"] for row in quantized)
    lines = {
        (network, quantizer): sorted(
            (row for row in rows if row["network"] == network and row["quantizer"] == quantizer),
            key=lambda row: row["bits"],
        )
        for network in networks
        for quantizer in ("none", *quantizers)
    }
    many = len(quantizers) > len(style.LINES)
    looks = {
        quantizer: (style.of_curve if many else style.of_quantizer)(index) for index, quantizer in enumerate(quantizers)
    }
    # The legend takes the place of a panel, and stands below them all where it is long or no row has a place left.
    below = many or len(networks) % COLUMNS == 0
    places_of_panels = len(networks) + (not below)
    columns = min(COLUMNS, places_of_panels)
    panel_rows = -(-places_of_panels // columns)
    with style.styled():
        legend_lines = -(-(len(looks) + 2) // LEGEND_COLUMNS) if below else 0
        figure = style.new_figure(style.WIDTH_INCHES, 0.7 + 1.95 * panel_rows + 0.2 * legend_lines + 0.5 * below)
        panels = figure.subplots(panel_rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        names = style.labels(networks)
        for index, (panel, network) in enumerate(zip(panels, networks, strict=False)):
            _draw_others(panel, lines, network, places)
            _draw_network(panel, lines, network, looks, places, style.of_network(index))
            panel.set_title(style.wrapped(names[network], 32))
        _set_axes(panels, len(networks), columns, places)
        keys = _legend_keys(looks, alone=len(networks) == 1)
        if below:
            figure.legend(handles=keys, loc="outside lower center", ncols=LEGEND_COLUMNS, handlelength=3.2)
        else:
            panels[len(networks)].legend(handles=keys, loc="center", handlelength=3.2)
        for panel in panels[len(networks) :]:
            panel.axis("off")
        seeds = max(row["seeds"] for row in rows)
        figure.suptitle(f"{dataset}: test accuracy against bits a weight ({style.seeds_text(seeds)})")
    return figure


def _places(widths) -> dict[int, int]:
    """Where whole bits stand on the axis, one beside the next; a mean stands between the two that it lies between."""
    whole = {end(bits) for bits in widths for end in (math.floor, math.ceil)}
    return {bits: place for place, bits in enumerate(sorted(whole | {FLOAT}))}


def _draw_others(panel, lines: dict, network: str, places: dict) -> None:
    for (other, quantizer), rows in lines.items():
        if other != network and quantizer != "none":
            x, y = _coordinates(rows, places)
            panel.plot(x, y, color="#d6d6d6", linewidth=0.8, zorder=1)


def _draw_network(panel, lines: dict, network: str, looks: dict, places: dict, look: dict) -> None:
    for row in lines[network, "none"]:
        accuracy = 100 * row["test_top1_mean"]
        panel.axhline(accuracy, color=look["color"], linewidth=0.7, zorder=1.5)
        panel.errorbar(places[FLOAT], accuracy, 100 * (row["test_top1_std"] or 0), capsize=2, **look)
    last = len(looks) - 1
    aside = min(ASIDE, WIDEST / max(last, 1))
    for index, (quantizer, own) in enumerate(looks.items()):
        rows = lines[network, quantizer]
        x, y = _coordinates(rows, places)
        deviations = [100 * (row["test_top1_std"] or 0) for row in rows]
        # a little to the side, so that neither error bar hides the other
        x = [place + aside * (index - last / 2) for place in x]
        container = panel.errorbar(x, y, deviations, capsize=2, elinewidth=0.8, **{**look, **own})
        container.lines[0].set_zorder(3)


def _coordinates(rows: list[dict], places: dict) -> tuple[list, list]:
    x = np.interp([row["bits"] for row in rows], list(places), list(places.values()))
    return list(x), [100 * row["test_top1_mean"] for row in rows]


def _set_axes(panels, count: int, columns: int, places: dict) -> None:
    style.accuracy_axis(panels[:count])
    words = ["float" if bits == FLOAT else str(bits) for bits in places]
    for index, panel in enumerate(panels[:count]):
        panel.set_xticks(list(places.values()), words)
        panel.set_xlim(-0.4, len(places) - 0.6)
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("bits a weight")
        if index % columns == 0:
            panel.set_ylabel("test accuracy (%)")


def _legend_keys(looks: dict, alone: bool) -> list:
    look = {"color": "black", "marker": "o"}
    keys = [
        style.key(style.wrapped(quantizer.replace(",", ", "), 30), **{**look, **own})
        for quantizer, own in looks.items()
    ]
    keys.append(style.key("float network", color="black", marker="o", linewidth=0.7))
    if not alone:
        keys.append(style.key("the other networks", color="#d6d6d6", linewidth=0.8))
    return keys
