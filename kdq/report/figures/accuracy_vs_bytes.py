"""Figure: test accuracy against the size of the model's file, with the Pareto front."""

from matplotlib.ticker import LogLocator, NullFormatter

from kdq.report import pareto
from kdq.report.figures import style

SAME_SIZE = 0.02  # files of one network's size differ by the names in their headers: no reason to prefer one


def draw(summary: list[dict], dataset: str):
    """The figure of one data set's rows of the summary: a point a recipe, the front's points numbered and named."""
    rows = [row for row in summary if row["dataset"] == dataset]
    with_bits = {row["network"] for row in rows if row["quantizer"] != "none"}
    networks = style.in_order({row["network"] for row in rows}, with_bits)
    quantizers = sorted({row["quantizer"] for row in rows} - {"none"})
    looks = _quantizer_looks(quantizers, alone=len(with_bits) == 1)
    points = [(row["file_bytes_mean"] / 1000, 100 * row["test_top1_mean"]) for row in rows]
    front = pareto.front(points, SAME_SIZE)
    names = style.labels(networks)
    with style.styled():
        keys = _keys(networks, looks, names, with_bits)
        keys += _front_keys([rows[index] for index in front], names)
        lines = sum(key.get_label().count("\n") + 1 for key in keys)
        figure = style.new_figure(style.WIDTH_INCHES, max(4.2, 0.13 * lines + 0.2))
        panel = figure.subplots()
        for row, point in zip(rows, points, strict=True):
            _draw_point(panel, row, point, _look(row, networks, looks, with_bits))
        _draw_front(panel, [points[index] for index in front])
        style.accuracy_axis([panel])
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(_kilobytes)
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel("size of the model's file (kB, 1 kB = 1000 bytes)")
        panel.set_ylabel("test accuracy (%)")
        seeds = max(row["seeds"] for row in rows)
        panel.set_title(f"{dataset}: test accuracy against size ({style.seeds_text(seeds)})", fontsize=10)
        figure.legend(handles=keys, loc="outside right upper", fontsize=7, handlelength=1.8, labelspacing=0.35)
    return figure


def _quantizer_looks(quantizers: list[str], alone: bool) -> dict[str, dict]:
    """Fillings; where these would repeat, colours and markers of the one network, which can do without, or none."""
    if len(quantizers) > len(style.FILLINGS):
        return {quantizer: style.of_network(index) for index, quantizer in enumerate(quantizers)} if alone else {}
    fillings = (style.of_quantizer(index)["fillstyle"] for index in range(len(quantizers)))
    return {
        quantizer: {"fillstyle": filling, "markerfacecoloralt": "white"}
        for quantizer, filling in zip(quantizers, fillings, strict=True)
    }


def _look(row: dict, networks: list[str], looks: dict[str, dict], with_bits: set) -> dict:
    if row["network"] not in with_bits:
        return {"color": style.GREY, "marker": "x", "markersize": 5, "zorder": 3}
    look = style.of_network(networks.index(row["network"]))
    if row["quantizer"] == "none":
        return {**look, "markersize": 7, "markeredgecolor": "black"}
    return {**look, **looks.get(row["quantizer"], {"fillstyle": "none"})}


def _draw_point(panel, row: dict, point: tuple, look: dict) -> None:
    x, y = point
    panel.errorbar(x, y, 100 * (row["test_top1_std"] or 0), linestyle="none", elinewidth=0.6, **look)


def _draw_front(panel, points: list[tuple]) -> None:
    panel.step(*zip(*points, strict=True), where="post", color="black", linewidth=0.9, zorder=1)
    for number, point in enumerate(points, 1):
        # above and left of a point of the front there is no other point
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
    for quantizer, own in looks.items():
        text = style.wrapped(quantizer.replace(",", ", "), 28)
        keys.append(style.key(text, **{**look, **own}))
    if not looks:
        keys.append(style.key("quantized", **look, fillstyle="none"))
    return keys


def _front_keys(rows: list[dict], names: dict) -> list:
    keys = [style.key("\nPareto front:", color="black", linewidth=0.9)]
    for number, row in enumerate(rows, 1):
        how = "float" if row["quantizer"] == "none" else f"{row['quantizer']}, {row['bits']:.3g} bits"
        text = style.wrapped(f"{number}  {names[row['network']]}: {how}".replace(",", ", ").replace("  ", " "), 30)
        keys.append(style.key(text, linestyle="none"))
    return keys


def _kilobytes(value: float, _position=None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
