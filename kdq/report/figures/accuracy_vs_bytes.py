"""Accuracy against size.

Test accuracy against the size of the model's file, on a logarithmic axis. No point is more accurate than one on the
Pareto front and as small, or as accurate and smaller; up to 2 % more bytes count as the same size. The front is
numbered, with names on the right. It is read off the test accuracy: a description of this study, not a validated
choice. The axis widens towards 100 %, so that differences of a per cent between good networks are visible beside the
collapse at few bits. Bars are the sample standard deviation over seeds, if there are several.
"""

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from kdq.report import pareto
from kdq.report.figures import Figure, style
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="recipes", table="summary")
read = SCHEMA.read

SAME_SIZE = 0.02  # files of equal networks differ by the names in their headers, which is no reason to prefer one


def draw(summary: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the summary: a point per recipe, those of the front numbered and named."""
    summary = summary[summary.dataset == dataset].fillna({"test_top1_std": 0})
    rows = list(summary.itertuples())
    with_bits = set(summary.network[summary.quantizer != "none"])
    networks = style.in_order(set(summary.network), with_bits)
    quantizers = sorted(set(summary.quantizer) - {"none"})
    looks = _quantizer_looks(quantizers, alone=len(with_bits) == 1)
    points = [(row.file_bytes_mean / 1000, 100 * row.test_top1_mean) for row in rows]
    front = pareto.front(points, SAME_SIZE)
    names = style.labels(networks)
    with style.styled():
        keys = _keys(networks, looks, names, with_bits)
        keys += _front_keys([rows[index] for index in front], names)
        lines = sum(key.get_label().count("\n") + 1 for key in keys)
        figure = style.new_figure(style.WIDTH_INCHES, max(4.2, 0.13 * lines + 0.2))
        panel = figure.subplots()
        for row, point in zip(rows, points, strict=True):
            look = _look(row, networks, looks, with_bits)
            panel.errorbar(*point, 100 * row.test_top1_std, linestyle="none", elinewidth=0.6, **look)
        _draw_front(panel, [points[index] for index in front])
        style.accuracy_axis([panel])
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(_kilobytes)
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel("size of the model's file (kB, 1 kB = 1000 bytes)")
        panel.set_ylabel("test accuracy (%)")
        panel.set_title(f"{dataset}: test accuracy against size ({style.seeds_text(summary)})", fontsize=10)
        figure.legend(handles=keys, loc="outside right upper", fontsize=7, handlelength=1.8, labelspacing=0.35)
    return figure


def _quantizer_looks(quantizers: list[str], alone: bool) -> dict[str, dict]:
    """Return fillings; if these would repeat, colours and markers if there is but one network, else nothing."""
    if len(quantizers) > len(style.FILLINGS):
        return {quantizer: style.of_network(index) for index, quantizer in enumerate(quantizers)} if alone else {}
    fillings = ({"fillstyle": filling, "markerfacecoloralt": "white"} for filling in style.FILLINGS)
    return dict(zip(quantizers, fillings, strict=False))


def _look(row, networks: list[str], looks: dict[str, dict], with_bits: set) -> dict:
    if row.network not in with_bits:
        return {"color": style.GREY, "marker": "x", "markersize": 5, "zorder": 3}
    look = style.of_network(networks.index(row.network))
    if row.quantizer == "none":
        return {**look, "markersize": 7, "markeredgecolor": "black"}
    return {**look, **looks.get(row.quantizer, {"fillstyle": "none"})}


def _draw_front(panel, points: list[tuple]) -> None:
    panel.step(*zip(*points, strict=True), where="post", color="black", linewidth=0.9, zorder=1)
    for number, point in enumerate(points, 1):
        # above and left of a point of the front there is no point
        panel.annotate(
            str(number), point, (-3, 4), textcoords="offset points", ha="right", fontsize=8, fontweight="bold"
        )


def _keys(networks: list[str], looks: dict[str, dict], names: dict, with_bits: set) -> list:
    look = {"color": "black", "marker": "o", "linestyle": "none"}
    keys = [style.key("Network:", linestyle="none")]
    keys += [
        style.key(style.wrapped(names[network], 28), linestyle="none", **style.of_network(index))
        for index, network in enumerate(networks)
        if network in with_bits
    ]
    if len(with_bits) < len(networks):
        keys.append(style.key("other float networks", color=style.GREY, marker="x", linestyle="none"))
    keys.append(style.key("\nWeights:", linestyle="none"))
    keys.append(style.key("float", **look, markersize=7))
    for quantizer, of_quantizer in looks.items():
        text = style.wrapped(quantizer.replace(",", ", "), 28)
        keys.append(style.key(text, **{**look, **of_quantizer}))
    if not looks:
        keys.append(style.key("quantized", **look, fillstyle="none"))
    return keys


def _front_keys(rows: list, names: dict) -> list:
    keys = [style.key("\nPareto front:", color="black", linewidth=0.9)]
    for number, row in enumerate(rows, 1):
        how = "float" if row.quantizer == "none" else f"{row.quantizer}, {row.bits:.3g} bits"
        text = style.wrapped(f"{number}  {names[row.network]}: {how}".replace(",", ", ").replace("  ", " "), 30)
        keys.append(style.key(text, linestyle="none"))
    return keys


def _kilobytes(value: float, _position=None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
