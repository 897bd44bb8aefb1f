"""Style of all figures: print sizes, colours that the colour-blind tell apart, markers and lines for grey print.

A network has a colour and a marker, a quantizer a line and a filling: two networks, or two quantizers, also differ
without colour. The colours are those of Okabe and Ito (Color Universal Design, 2008), without the yellow.
"""

import textwrap

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from kdq.provenance.files import atomic
from kdq.recipe.path import stages

WIDTH_INCHES = 7.0  # the text width of a page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one more than the colours: 56 pairs before one repeats
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
FILLINGS = ("full", "none", "left", "top", "right", "bottom")
_LEAST_SPAN = 4  # per cent, of an axis of accuracies
GREY = "#8c8c8c"
SEEDS_COLOUR, IMAGES_COLOUR = COLOURS[0], COLOURS[1]  # of intervals
UNDETECTABLE = "#ebebeb"
VERDICTS = {"black": "better or worse", "white": "undecided", GREY: "no verdict"}  # by filling
STRETCHED = "\naxis stretched towards 100"  # in the label of an axis that ``accuracy_axis`` scales
_MOST = 101  # per cent: the end of the widening axis, beyond 100 so that 100 itself is on it

SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.titlesize": 10,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "svg.hashsalt": "kdq",  # with no date in the file, equal data give equal bytes
}


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure with automatic layout; without pyplot, which would look for a screen."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def empty_figure(text: str) -> Figure:
    """Return a figure that holds ``text``, why there is nothing to draw."""
    with styled():
        figure = new_figure(WIDTH_INCHES, 1.0)
        figure.text(0.5, 0.5, text, ha="center")
    return figure


def styled():
    """Return the context in which figures are made and saved."""
    return matplotlib.rc_context(SETTINGS)


def save(figure: Figure, png, svg) -> None:
    """Write ``figure`` as PNG (150 dots per inch) and SVG; equal figures give equal bytes."""
    with styled():
        with atomic(png) as aside:
            FigureCanvasAgg(figure).print_figure(aside, dpi=150, format="png", metadata={"Software": None})
        figure.set_layout_engine("none")  # the layout is done
        with atomic(svg) as aside:
            FigureCanvasSVG(figure).print_figure(aside, format="svg", metadata={"Date": None})


def accuracy_axis(panels) -> None:
    """Scale the shared y axis, in per cent, to widen towards 100: 90 to 95 is about as long as 80 to 90.

    Networks differ by a per cent near the top and by tens at two bits; a linear axis shows the latter alone.
    """
    for panel in panels:
        panel.margins(y=0)
    panel = panels[0]
    low, high = panel.get_ylim()
    # a narrower axis would make a difference of an image or two look large
    missing = max(_LEAST_SPAN - (high - low), 0) / 2
    low, high = _widen(np.array([low - missing, high + missing]))
    span = high - low
    low, high = low - 0.06 * span, min(high + 0.08 * span, _widen(100))
    panel.set_yscale("function", functions=(_widen, _narrow))
    panel.set_ylim(_narrow(low), _narrow(high))
    ticks = _ticks(low, high)
    panel.set_yticks(ticks, [str(tick) for tick in ticks])
    panel.set_yticks([], minor=True)


def _ticks(low: float, high: float) -> list[int]:
    """Return the accuracies to mark between two widened ones, none too close to another: round ones, or else all."""
    round_ones = (100, 90, 50, 95, 80, 98, 0, 70, 99, 97, 60, 20, 40, 85, 10, 30, 75, 65, *range(5, 60, 10))
    ticks: list[int] = []
    for accuracies in (round_ones, range(100)):
        for tick in accuracies:
            far = all(abs(_widen(tick) - _widen(marked)) > 0.075 * (high - low) for marked in ticks)
            if low <= _widen(tick) <= high and far:
                ticks.append(tick)
        if len(ticks) > 3:
            break
    return sorted(ticks)


def _widen(accuracy):
    return -np.log(_MOST - np.clip(accuracy, 0, 100))


def _narrow(widened):
    return _MOST - np.exp(-widened)


def seeds_text(rows: pd.DataFrame) -> str:
    """Return the number of seeds for a title: the largest in the column ``seeds``, or of seeds in ``seed``."""
    count = rows.seeds.max() if "seeds" in rows else rows.seed.nunique()
    return "single seed" if count == 1 else f"{count} seeds"


def in_order(networks, quantized=()) -> list[str]:
    """Return networks in the order and so the colours of all figures: quantized ones, roots first, then all others."""
    return sorted(set(networks), key=lambda path: (path not in quantized, len(stages(path)), path != "teacher", path))


def labels(networks) -> dict[str, str]:
    """Return a short label for each network: its last stage, or the recipe if several have the same last stage."""
    endings = [stages(path)[-1] for path in networks]
    chosen = {
        path: ending if endings.count(ending) == 1 else path for path, ending in zip(networks, endings, strict=True)
    }
    return {path: text.replace(",", ", ") for path, text in chosen.items()}


def bits_text(bits: float, activation_bits: int) -> str:
    """Return the bits of weights, and those of activations unless they are float: ``2 bits, A8``."""
    return f"{bits:.3g} bits" + (f", A{activation_bits}" if activation_bits < 32 else "")


def wrapped(text: str, width: int) -> str:
    """Return ``text`` in lines of at most ``width`` letters, broken at spaces."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def of_network(index: int) -> dict:
    """Return colour and marker of the network at ``index``."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def of_curve(index: int) -> dict:
    """Return colour, marker and line of the curve at ``index`` in a figure without quantizers."""
    return {**of_network(index), "linestyle": LINES[index % len(LINES)]}


def of_value(index: int, count: int) -> dict:
    """Return colour, marker and line of the curve of value ``index`` of ``count`` ordered ones, the last is lightest.

    The colours are those of viridis without its yellow: their order is seen in grey print too.
    """
    shade = 0.88 * index / max(count - 1, 1)
    look = {"color": matplotlib.colormaps["viridis"](shade), "marker": (*MARKERS, "<")[index % (len(MARKERS) + 1)]}
    return {**look, "linestyle": LINES[index % len(LINES)]}


def of_quantizer(index: int) -> dict:
    """Return line and filling of the quantizer at ``index``."""
    return {
        "linestyle": LINES[index % len(LINES)],
        "fillstyle": FILLINGS[index % len(FILLINGS)],
        "markerfacecoloralt": "white",
    }


def key(label: str, **look) -> Line2D:
    """Return an entry of a legend."""
    return Line2D([], [], label=label, **look)


def legend_columns(labels, width_inches: float = WIDTH_INCHES) -> int:
    """Return how many columns of a legend with ``labels`` a figure has room for, at most 3."""
    longest = max(len(line) for label in labels for line in label.split("\n"))
    return max(1, min(3, int(width_inches / (0.6 + 0.065 * longest))))


def fillings(rows: pd.DataFrame) -> pd.Series:
    """Return the fillings of the marks of compared models, by the column ``verdict``."""
    black, white, grey = VERDICTS
    return rows.verdict.map({"better": black, "worse": black, "undecided": white}).fillna(grey)


def draw_undetectable(panel, heights, detectable) -> None:
    """Shade in each row the differences too small to be seen; the axis keeps the limits that it has."""
    panel.set_xlim(panel.get_xlim())
    for height, size in zip(heights, detectable, strict=True):
        if size == size:  # a number
            panel.add_artist(Rectangle((-size, height - 0.4), 2 * size, 0.8, color=UNDETECTABLE, linewidth=0, zorder=0))


def interval_keys(rows: pd.DataFrame, seeds_width: float) -> list:
    """Return the legend of the intervals over seeds, if any row has one, and over images; and of the shade."""
    keys = [key("95 % interval over test images", color=IMAGES_COLOUR, linewidth=1.0, marker="|")]
    if rows.low.notna().any():
        keys.insert(0, key("95 % interval over seeds", color=SEEDS_COLOUR, linewidth=seeds_width))
    if rows.detectable.notna().any():
        keys.append(Patch(color=UNDETECTABLE, label="seen with a probability below 80 %"))
    return keys


def verdict_keys(rows: pd.DataFrame, **look) -> list[Line2D]:
    """Return the legend of the marks in the column ``filling``."""
    drawn = [(filling, text) for filling, text in VERDICTS.items() if (rows.filling == filling).any()]
    return [key(f"difference, {text}", **look, markerfacecolor=filling) for filling, text in drawn]
