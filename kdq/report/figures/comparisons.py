"""Figure: differences of test accuracy between the float students and the baseline, with intervals (a forest plot)."""

from kdq.report import pairs
from kdq.report.figures import style

SEEDS_COLOUR, IMAGES_COLOUR = style.COLOURS[0], style.COLOURS[1]
_OFFSET = 0.17  # of a row, between its two bars
_DOT = {"color": "black", "marker": "o", "markersize": 5, "linestyle": "none"}
_FILLINGS = {False: "black", True: "white", None: style.GREY}  # by ``within_noise``


def draw(comparisons: list[dict], dataset: str):
    """The figure of one data set's rows of the comparisons."""
    rows = [row for row in comparisons if row["dataset"] == dataset and row["family"] == "baseline"]
    baseline = rows[0]["other"]
    shown = set(pairs.students([baseline, *(row["recipe"] for row in rows)]))
    rows = sorted((row for row in rows if row["recipe"] in shown), key=lambda row: row["difference"])
    names = style.labels([row["recipe"] for row in rows])
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 1.3 + 0.3 * len(rows))
        panel = figure.subplots()
        panel.axvline(0, color="black", linewidth=0.9)
        for place, row in enumerate(rows):
            _draw_row(panel, place, row)
        _write(panel, len(rows) - 0.25, "points", "p, Holm", fontstyle="italic")
        panel.set_yticks(range(len(rows)), [style.wrapped(names[row["recipe"]], 34) for row in rows])
        panel.set_ylabel("student")
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        against = style.labels([baseline])[baseline]
        panel.set_xlabel(f"difference of test accuracy from {against} (percentage points)")
        seeds = style.seeds_text(max(row["seeds"] for row in rows))
        images = f"{rows[0]['test_images']:,} test images"
        figure.suptitle(f"{dataset}: students against {against} ({seeds}, {images})")
        figure.legend(handles=_keys(rows), loc="outside lower center", ncols=2, handlelength=2.4)
    return figure


def _draw_row(panel, place: int, row: dict) -> None:
    difference = 100 * row["difference"]
    over_seeds = row["low"] is not None
    # with one bar it is on the row's line, with two they are a little apart
    offset = _OFFSET if over_seeds else 0
    low, high = 100 * row["image_low"], 100 * row["image_high"]
    panel.errorbar(
        difference,
        place - offset,
        xerr=[[max(difference - low, 0)], [max(high - difference, 0)]],
        color=IMAGES_COLOUR,
        linewidth=1.0,
        capsize=2.5,
        zorder=2,
    )
    if over_seeds:
        panel.plot([100 * row["low"], 100 * row["high"]], [place + offset] * 2, color=SEEDS_COLOUR, linewidth=2.6)
    panel.plot(difference, place, **_DOT, markerfacecolor=_FILLINGS[row["within_noise"]], zorder=4)
    p = max(p for p in (row["p_holm"], row["p_images_holm"]) if p is not None)
    _write(panel, place, f"{difference:+.2f}".replace("-", "\N{MINUS SIGN}"), _p_text(p))


def _write(panel, place: float, difference: str, p: str, **look) -> None:
    """Two words right of the panel, in columns."""
    for text, points, side in ((difference, 38, "right"), (p, 46, "left")):
        panel.annotate(
            text,
            (1, place),
            (points, 0),
            xycoords=panel.get_yaxis_transform(),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
            annotation_clip=False,
            **look,
        )


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _keys(rows: list[dict]) -> list:
    keys = [style.key("95 % interval over test images", color=IMAGES_COLOUR, linewidth=1.0, marker="|")]
    if any(row["low"] is not None for row in rows):
        keys.insert(0, style.key("95 % interval over seeds", color=SEEDS_COLOUR, linewidth=2.6))
    for within_noise, text in ((False, "beyond noise"), (True, "within noise"), (None, "one seed, no verdict")):
        if any(row["within_noise"] is within_noise for row in rows):
            keys.append(style.key(f"difference, {text}", **_DOT, markerfacecolor=_FILLINGS[within_noise]))
    return keys
