"""Accuracy against a cost, on a logarithmic axis, with the Pareto front: what several figures have in common.

The points are rows of a DataFrame with the columns ``cost``, ``accuracy`` and ``deviation`` (test part, per cent),
``validation`` (accuracy by which the front is chosen), ``recipe``, ``network``, ``quantizer``, ``bits`` and
``activation_bits``. A network has a colour and a marker, bits of activations or a quantizer a filling.
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
SHAPES = ("full", "none", "left", "top", "right", "bottom")
ACCURACY = f"test accuracy (%), front chosen on validation{style.STRETCHED}"


class Looks:
    """Colours, markers and fillings of all ``points``, in every panel of a figure.

    Fillings tell apart values of the column ``by``; if they would repeat, all quantized models are hollow.
    """

    def __init__(self, points: pd.DataFrame, by: str = "activation_bits"):
        quantized = points[points.quantizer != "none"]
        self.with_bits = set(quantized.network)
        self.networks = style.in_order(set(points.network), self.with_bits)
        self.names = style.labels(self.networks)
        self.by, values = by, sorted(set(quantized[by]))
        # float activations, the last of the numbers, are hollow
        shapes = (*SHAPES[:1], *SHAPES[2:], "none")[-len(values) :] if values[-1:] == [FLOAT] else SHAPES
        self.fillings = dict(zip(values, shapes, strict=False)) if len(values) <= len(SHAPES) else {}

    def of(self, point) -> dict:
        """Return the look of a point."""
        if point.network not in self.with_bits:
            return {"color": style.GREY, "marker": "x", "markersize": 5, "zorder": 3}
        look = style.of_network(self.networks.index(point.network))
        if point.quantizer == "none":
            return {**look, "markersize": 7, "markeredgecolor": "black", "zorder": 4}
        return {**look, "fillstyle": self.fillings.get(getattr(point, self.by), "none"), **WHITE}

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
        keys.append(style.key("\nWeights and activations:", linestyle="none"))
        keys.append(style.key("float", **look, markersize=7))
        for value, filling in (self.fillings or {"quantized": "none"}).items():
            keys.append(style.key(style.wrapped(_filled(value), LEGEND_WIDTH), **look, fillstyle=filling, **WHITE))
        return keys


def _filled(value) -> str:
    """Return what a filling stands for: a quantizer, or bits of activations."""
    if isinstance(value, str):
        return in_words(value)
    return "quantized weights alone" if value == FLOAT else f"A{value}: activations of {value} bits too"


def figure(rows: pd.DataFrame, cost: pd.Series, axis: str, title: str, *, by="activation_bits", tolerance=0.0):
    """Draw rows of the summary at their ``cost``, which the text ``axis`` names, those of the front numbered and named.

    Fillings tell apart values of the column ``by``; costs within the share ``tolerance`` of one another are equal.
    """
    points = rows.assign(
        cost=cost,
        accuracy=100 * rows.test_top1_mean,
        deviation=100 * rows.test_top1_std.fillna(0),
        validation=rows.validation_top1_mean,
    )
    looks, chosen = Looks(points, by), front(points, tolerance)
    numbers = {recipe: number for number, recipe in enumerate(chosen, 1)}
    with style.styled():
        keys = looks.keys() + front_keys(points, numbers, looks.names)
        drawn = style.new_figure(style.WIDTH_INCHES, height(keys, 4.2))
        panel = drawn.subplots()
        draw(panel, points, looks, numbers, chosen)
        style.accuracy_axis([panel])
        cost_axis(panel, points.cost)
        panel.set_xlabel(axis)
        panel.set_ylabel(ACCURACY)
        panel.set_title(f"{title} ({style.seeds_text(rows)})", fontsize=10)
        drawn.legend(handles=keys, loc="outside right upper", fontsize=7, handlelength=1.8, labelspacing=0.35)
    return drawn


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
