"""Figure: how far behind the best sequence of stages each other one is, by bits; and teachers against students."""

from statistics import fmean

from kdq.report.figures import style

SEEDS_COLOUR, IMAGES_COLOUR = style.COLOURS[0], style.COLOURS[1]
FILLINGS = {False: "black", True: "white", None: style.GREY}  # by ``within_noise``
MARK = {"color": "black", "markersize": 4.5, "linestyle": "none", "zorder": 4}
OFFSET = 0.16  # of a row, between its two bars
ROW_INCHES = 0.27
QUESTIONS = {
    "teacher at equal bits": "teacher / student, equal bits",
    "teacher at equal bytes": "teacher / student, equal bytes",
}

Lane = tuple[int, str]  # parameters of the network, sequence


def draw(table: list[dict], dataset: str):
    """The figure of one data set's rows of the table of sequences."""
    rows = [row for row in table if row["dataset"] == dataset]
    orders = [row for row in rows if row["question"] == "order"]
    against = {text: [row for row in rows if row["question"] == question] for question, text in QUESTIONS.items()}
    against = {text: found for text, found in against.items() if found}
    if not rows:
        return _draw_nothing(dataset)
    drawn = [(draw_orders, orders, len(lanes(orders)))] if orders else []
    drawn += [(draw_teachers, against, max(map(len, against.values())))] if against else []
    heights = [0.9 + ROW_INCHES * count for _, _, count in drawn]
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES + 1, 0.8 + sum(heights))
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, (draw_part, shown, _) in zip(parts, drawn, strict=True):
            draw_part(part, shown)
        seeds = style.seeds_text(max(row["seeds"] for row in rows))
        figure.suptitle(f"{dataset}: sequences of stages ({seeds}, {rows[0]['test_images']:,} test images)")
        figure.legend(handles=_keys(rows), loc="outside lower center", ncols=3, handlelength=2.2)
    return figure


def _draw_nothing(dataset: str):
    """Recipes alone do not tell whether networks are of one size, so that there may be a figure without a pair."""
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 1.0)
        figure.text(0.5, 0.5, f"{dataset}: no two models of one size of network and the same bits", ha="center")
    return figure


def lanes(orders: list[dict]) -> list[Lane]:
    """The sequences as the figure lists them from above: small networks first, then by how far behind they are."""
    behind: dict[Lane, dict[int, float]] = {}
    for row in orders:
        for sequence, distance in ((row["sequence"], 0.0), (row["other_sequence"], row["difference"])):
            behind.setdefault((row["parameters"], sequence), {})[row["bits"]] = distance
    return sorted(behind, key=lambda lane: (lane[0], fmean(behind[lane].values()), lane[1]))


def draw_orders(part, orders: list[dict]) -> None:
    """One panel for each number of bits: the winner at 0, the others at their distance from it."""
    widths = sorted({row["bits"] for row in orders})
    listed = lanes(orders)[::-1]
    places = {lane: place for place, lane in enumerate(listed)}
    panels = part.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for panel, bits in zip(panels, widths, strict=True):
        here = [row for row in orders if row["bits"] == bits]
        panel.axvline(0, color="black", linewidth=0.9)
        for row in here:
            _draw_bars(panel, places[row["parameters"], row["other_sequence"]], row, sign=-1)
        for winner in {row["recipe"] for row in here}:
            _draw_winner(panel, places, [row for row in here if row["recipe"] == winner])
        panel.set_title(f"{bits} bits")
    panels[0].set_yticks(range(len(listed)), [style.wrapped(_spaced(text), 34) for _, text in listed], fontsize=7)
    panels[0].set_ylim(-0.6, len(listed) - 0.4)
    for size in {size for size, _ in listed[:-1]} - {listed[-1][0]}:
        border = max(place for (other, _), place in places.items() if other == size) + 0.5
        for panel in panels:
            panel.axhline(border, color=style.GREY, linewidth=0.6, linestyle=(0, (4, 3)))
    part.supxlabel("test accuracy less that of the best sequence at these bits (percentage points)", fontsize=9)


def draw_teachers(part, against: dict[str, list[dict]]) -> None:
    """One panel for each question: the best quantized teacher less the best student, a row for each number of bits."""
    panels = part.subplots(1, len(against), squeeze=False)[0]
    for panel, (text, rows) in zip(panels, against.items(), strict=True):
        rows = sorted(rows, key=lambda row: -row["bits"])
        panel.axvline(0, color="black", linewidth=0.9)
        for place, row in enumerate(rows):
            _draw_bars(panel, place, row)
        panel.set_yticks(range(len(rows)), [_against(row) for row in rows], fontsize=7)
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.set_title(text)
    part.supxlabel("test accuracy of the best teacher less that of the best student (percentage points)", fontsize=9)


def _draw_bars(panel, place: int, row: dict, sign: int = 1) -> None:
    """The intervals of a difference, or of its negative, and a dot for it."""
    over_seeds = row["low"] is not None
    offset = OFFSET if over_seeds else 0
    low, high = sorted(100 * sign * row[end] for end in ("image_low", "image_high"))
    panel.plot([low, high], [place - offset] * 2, color=IMAGES_COLOUR, linewidth=1.0, marker="|", markersize=4)
    if over_seeds:
        low, high = sorted(100 * sign * row[end] for end in ("low", "high"))
        panel.plot([low, high], [place + offset] * 2, color=SEEDS_COLOUR, linewidth=2.2)
    filling = FILLINGS[row["within_noise"]]
    panel.plot(100 * sign * row["difference"], place, marker="o", **MARK, markerfacecolor=filling)


def _draw_winner(panel, places: dict[Lane, int], rows: list[dict]) -> None:
    """A star, black where the winner is beyond noise against every other one."""
    verdicts = {row["within_noise"] for row in rows}
    filling = FILLINGS[None if None in verdicts else any(verdicts)]
    place = places[rows[0]["parameters"], rows[0]["sequence"]]
    panel.plot(0, place, marker="*", **{**MARK, "markersize": 9}, markerfacecolor=filling)


def _against(row: dict) -> str:
    bits = "float" if row["other_bits"] == 32 else f"{row['other_bits']} bits"
    kilobytes = (row[f"{side}file_bytes_mean"] / 1000 for side in ("", "other_"))
    sizes = " / ".join(f"{size:,.0f}" if size >= 100 else f"{size:.3g}" for size in kilobytes)
    return f"{row['bits']} bits / {bits}\n{sizes} kB"


def _spaced(text: str) -> str:
    return text.replace(",", ", ").replace("/", " / ")


def _keys(rows: list[dict]) -> list:
    keys = [style.key("95 % interval over test images", color=IMAGES_COLOUR, linewidth=1.0, marker="|")]
    if any(row["low"] is not None for row in rows):
        keys.insert(0, style.key("95 % interval over seeds", color=SEEDS_COLOUR, linewidth=2.2))
    keys.append(
        style.key("best by validation; black: beyond noise of all others", marker="*", **{**MARK, "markersize": 8})
    )
    for within_noise, text in ((False, "beyond noise"), (True, "within noise"), (None, "one seed, no verdict")):
        if any(row["within_noise"] is within_noise for row in rows):
            keys.append(style.key(f"difference, {text}", marker="o", **MARK, markerfacecolor=FILLINGS[within_noise]))
    return keys
