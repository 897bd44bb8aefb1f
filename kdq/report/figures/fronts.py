"""Accuracy against a cost, on a logarithmic axis, with the Pareto front: what several figures have in common.

The points are rows of a DataFrame with the columns ``cost``, ``accuracy`` and ``deviation`` (test part, per cent),
``validation`` (accuracy by which the front is chosen), ``recipe``, ``network``, ``quantizer``, ``bits`` and
``activation_bits``. A network has a colour and a marker, bits of activations a filling.
"""

import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from kdq.report import pareto
from kdq.report.bits import in_words
from kdq.report.figures import style

FLOAT = 32
LEGEND_WIDTH = 30  # letters
TICKS = (1, 2, 5)
MORE_TICKS = (1, 1.5, 2, 3, 4, 5, 6, 8)  # of an axis of less than FEW_TICKS_FROM
FEW_TICKS_FROM = 20  # the largest cost over the least
WHITE = {"markerfacecoloralt": "white"}  # the other half of a mark


class Looks:
    """Colours, markers and fillings of all ``points``, in every panel of a figure."""

    def __init__(self, points: pd.DataFrame):
        quantized = points[points.quantizer != "none"]
        self.with_bits = set(quantized.network)
        self.networks = style.in_order(set(points.network), self.with_bits)
        self.names = style.labels(self.networks)
        widths = sorted(set(quantized.activation_bits), reverse=True)
        shapes = ("none", "full", "left", "top", "right", "bottom")  # float activations are hollow
        shapes = shapes if FLOAT in widths else shapes[1:]
        self.fillings = dict(zip(widths, shapes, strict=False))

    def of(self, point) -> dict:
        """Return the look of a point."""
        if point.network not in self.with_bits:
            return {"color": style.GREY, "marker": "x", "markersize": 5, "zorder": 3}
        look = style.of_network(self.networks.index(point.network))
        if point.quantizer == "none":
            return {**look, "markersize": 7, "markeredgecolor": "black", "zorder": 4}
        return {**look, "fillstyle": self.fillings[point.activation_bits], **WHITE}

    def keys(self) -> list:
        """Return the legend."""
        look = {"color": "black", "marker": "o", "linestyle": "none"}
        keys = [style.key("Network:", linestyle="none")]
        for index, network in enumerate(self.networks):
            if network in self.with_bits:
                text = style.wrapped(self.names[network], LEGEND_WIDTH)
                keys.append(style.key(text, linestyle="none", **style.of_network(index)))
        if len(self.with_bits) < len(self.networks):
            keys.append(style.key("other float networks", color=style.GREY, marker="x", linestyle="none"))
        keys += [style.key("\nWeights and activations:", linestyle="none")]
        keys.append(style.key("float", **look, markersize=7))
        for width, filling in self.fillings.items():
            text = "quantized weights alone" if width == FLOAT else f"A{width}: activations of {width} bits too"
            keys.append(style.key(style.wrapped(text, LEGEND_WIDTH), **look, fillstyle=filling, **WHITE))
        return keys


def front(points: pd.DataFrame, tolerance: float) -> list[str]:
    """Return the recipes of the Pareto front by validation accuracy, cost ascending.

    Costs within the share ``tolerance`` of one another are equal.
    """
    pairs = list(zip(points.cost, points.validation, strict=True))
    return [points.recipe.iloc[index] for index in pareto.front(pairs, tolerance)]


def draw(panel, points: pd.DataFrame, looks: Looks, numbers: dict[str, int], chosen: list[str]) -> None:
    """Draw the points, and through those of the recipes ``chosen`` the front; ``numbers`` stand beside these."""
    for point in points.itertuples():
        look = {"linestyle": "none", "elinewidth": 0.6, **looks.of(point)}
        panel.errorbar(point.cost, point.accuracy, point.deviation or None, **look)
    on_front = points.set_index("recipe").loc[chosen]
    panel.step(on_front.cost, on_front.accuracy, where="post", color="black", linewidth=0.9, zorder=1)
    for recipe, point in on_front.iterrows():
        look = {"ha": "right", "fontsize": 8, "fontweight": "bold"}
        panel.annotate(str(numbers[recipe]), (point.cost, point.accuracy), (-4, 4), textcoords="offset points", **look)


def front_keys(points: pd.DataFrame, numbers: dict[str, int], names: dict) -> list:
    """Return the legend of the numbers beside the front."""
    keys = [style.key("\nPareto front, by validation:", color="black", linewidth=0.9)]
    rows = points.drop_duplicates("recipe").set_index("recipe")
    for recipe, number in numbers.items():
        row = rows.loc[recipe]
        text = f"{number}  {names[row.network]}: {_quantization(row)}".replace(",", ", ").replace("  ", " ")
        keys.append(style.key(style.wrapped(text, LEGEND_WIDTH), linestyle="none"))
    return keys


def _quantization(row: pd.Series) -> str:
    if row.quantizer == "none":
        return "float"
    quantizer = row.quantizer.replace(f",activations={row.activation_bits}", "")
    return f"{in_words(quantizer)}, {style.bits_text(row.bits, row.activation_bits)}"


def cost_axis(panel, costs: pd.Series) -> None:
    """Scale the x axis of ``costs`` logarithmically, with plain numbers."""
    panel.set_xscale("log")
    few = costs.max() / costs.min() > FEW_TICKS_FROM
    panel.xaxis.set_major_locator(LogLocator(subs=TICKS if few else MORE_TICKS))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:.3g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def height(keys: list, least: float) -> float:
    """Return the inches of a figure with the legend ``keys`` beside it, at least so many."""
    return max(least, 0.13 * sum(key.get_label().count("\n") + 1 for key in keys) + 0.2)
