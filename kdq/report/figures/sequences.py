"""Sequences of stages.

Above, one panel per number of bits (A8: with activations of 8 bits, else float ones): the star is the sequence of
stages with the best mean validation accuracy among networks of one size, the dots are its rivals, at their test
accuracy less that of the star. The thick bar is the 95 % interval over seeds, the thin one that over test images,
neither corrected; a dot is black if the star is better or worse after Holm's correction, open if that is undecided, and
grey without a verdict, of a single seed. A true difference as small as the shaded ones would have been missed more
often than once in five. A black star is decided against all rivals at these bits. A broken line separates networks of
different sizes. Below, the best quantized teacher less the best student (by validation): at the teacher's bits; at
these bits and about its multiply-accumulates; at about its bytes; at about its bit-operations; at equal bits of
activations. On the left of a row are the bits and costs of both; a grey one, whose student costs less than 90 % of the
teacher, is refused.
"""

import math

import pandas as pd

from kdq.report.bits import nearest_tenth
from kdq.report.figures import Figure, style
from kdq.report.tables.sequences import COSTS, SCHEMA

FIGURE = Figure(shows="sequences", table="sequences")
read = SCHEMA.read

MARK = {"color": "black", "markersize": 4.5, "linestyle": "none", "zorder": 4}
OFFSET = 0.16  # of a row, between its two bars
ROW_INCHES = 0.27
QUESTIONS = {"teacher at equal bits": "file_bytes_mean", **COSTS}  # the costs that stand beside a row
UNITS = {"file_bytes_mean": (1e3, "kB"), "macs_mean": (1e6, "M MACs"), "bit_operations_mean": (1e9, "G bit-op.")}

Lane = tuple[int, str]  # parameters of the network, sequence


def draw(table: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the table of sequences."""
    rows = table[table.dataset == dataset].assign(
        filling=style.fillings, bits=lambda each: each.bits.map(nearest_tenth)
    )
    orders = rows[rows.question == "order"]
    against = {question: rows[rows.question == question] for question in QUESTIONS}
    against = {question: group for question, group in against.items() if len(group)}
    if rows.empty:
        # recipes alone do not decide whether networks are of one size
        return style.empty_figure(f"{dataset}: no two models of one size of network and the same bits")
    drawn = [(draw_orders, orders, len(lanes(orders)))] if len(orders) else []
    panel_rows = -(-len(against) // 2)
    most = max(map(len, against.values()), default=0)
    drawn += [(draw_teachers, against, panel_rows * (1.2 * most + 2))] if against else []
    heights = [0.9 + ROW_INCHES * count for _, _, count in drawn]
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES + 1, 0.8 + sum(heights))
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, (draw_part, shown, _) in zip(parts, drawn, strict=True):
            draw_part(part, shown)
        seeds = style.seeds_text(rows)
        figure.suptitle(f"{dataset}: sequences of stages ({seeds}, {rows.test_images.iloc[0]:,} test images)")
        figure.legend(handles=_keys(rows), loc="outside lower center", ncols=3, handlelength=2.2)
    return figure


def lanes(orders: pd.DataFrame) -> list[Lane]:
    """Return the sequences as listed from above: small networks first, then by mean distance from the winners."""
    columns = ["parameters", "sequence", "bits"]
    winners = orders[columns].drop_duplicates().assign(difference=0.0)
    rivals = orders[[*columns, "difference"]].assign(sequence=orders.other_sequence)
    behind = pd.concat([winners, rivals]).groupby(columns[:2], as_index=False).difference.mean()
    listed = behind.sort_values(["parameters", "difference", "sequence"])
    return list(zip(listed.parameters, listed.sequence, strict=True))


def draw_orders(part, orders: pd.DataFrame) -> None:
    """Draw one panel per number of bits: the winner at 0, each rival at its distance."""
    by_bits = orders.groupby(["bits", "activation_bits"])
    listed = lanes(orders)[::-1]
    heights = {lane: height for height, lane in enumerate(listed)}
    panels = part.subplots(1, len(by_bits), sharey=True, squeeze=False)[0]
    for panel, ((bits, of_activations), group) in zip(panels, by_bits, strict=True):
        panel.axvline(0, color="black", linewidth=0.9)
        for row in group.itertuples():
            _draw_bars(panel, heights[row.parameters, row.other_sequence], row, sign=-1)
        for _, rivals in group.groupby("recipe"):
            _draw_winner(panel, heights, rivals)
        shaded = [heights[row.parameters, row.other_sequence] for row in group.itertuples()]
        style.draw_undetectable(panel, shaded, 100 * group.detectable)
        panel.set_title(style.bits_text(bits, of_activations))
    names = [style.wrapped(text.replace(",", ", ").replace("/", " / "), 46) for _, text in listed]
    panels[0].set_yticks(range(len(listed)), names, fontsize=7)
    panels[0].set_ylim(-0.6, len(listed) - 0.4)
    for size in {size for size, _ in listed[:-1]} - {listed[-1][0]}:
        border = max(height for (parameters, _), height in heights.items() if parameters == size) + 0.5
        for panel in panels:
            panel.axhline(border, color=style.GREY, linewidth=0.6, linestyle=(0, (4, 3)))
    part.supxlabel("test accuracy less that of the best sequence at these bits (percentage points)", fontsize=9)


def draw_teachers(part, against: dict[str, pd.DataFrame]) -> None:
    """Draw one panel per question: the best quantized teacher less the best student, a row per number of bits."""
    panels = part.subplots(-(-len(against) // 2), min(2, len(against)), squeeze=False).flatten()
    for panel in panels[len(against) :]:
        panel.remove()
    for panel, (question, group) in zip(panels, against.items(), strict=False):
        group = group.sort_values("bits", ascending=False)
        rows = list(group.itertuples())
        panel.axvline(0, color="black", linewidth=0.9)
        for height, row in enumerate(rows):
            _draw_bars(panel, height, row)
        style.draw_undetectable(panel, range(len(rows)), 100 * group.detectable)
        panel.set_yticks(range(len(rows)), [_against(row, QUESTIONS[question]) for row in rows], fontsize=7)
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.set_title(question.replace("teacher at", "teacher / student,"))
    part.supxlabel("test accuracy of the best teacher less that of the best student (percentage points)", fontsize=9)


def _draw_bars(panel, height: int, row, sign: int = 1) -> None:
    """Draw the intervals of a difference, or of its negative, and a dot for it."""
    over_seeds = not math.isnan(row.low)
    offset = OFFSET if over_seeds else 0
    low, high = sorted((100 * sign * row.image_low, 100 * sign * row.image_high))
    panel.plot([low, high], [height - offset] * 2, color=style.IMAGES_COLOUR, linewidth=1.0, marker="|", markersize=4)
    if over_seeds:
        low, high = sorted((100 * sign * row.low, 100 * sign * row.high))
        panel.plot([low, high], [height + offset] * 2, color=style.SEEDS_COLOUR, linewidth=2.2)
    panel.plot(100 * sign * row.difference, height, marker="o", **MARK, markerfacecolor=row.filling)


def _draw_winner(panel, heights: dict[Lane, int], rivals: pd.DataFrame) -> None:
    """Draw a star with the most cautious filling of its rivals: black if it is decided against each of them."""
    filling = next(colour for colour in (style.GREY, "white", "black") if (rivals.filling == colour).any())
    height = heights[rivals.parameters.iloc[0], rivals.sequence.iloc[0]]
    panel.plot(0, height, marker="*", **{**MARK, "markersize": 9}, markerfacecolor=filling)


def _against(row, cost: str) -> str:
    bits = "float" if row.other_bits == 32 else f"{row.other_bits:g} bits"
    unit, name = UNITS[cost]
    costs = (getattr(row, cost) / unit, getattr(row, f"other_{cost}") / unit)
    words = " / ".join(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in costs)
    return f"{style.bits_text(row.bits, row.activation_bits)} / {bits}\n{words} {name}"


def _keys(rows: pd.DataFrame) -> list:
    star = {**MARK, "marker": "*", "markersize": 8}
    best = style.key("best by validation; black: decided against all others", **star)
    return [*style.interval_keys(rows, seeds_width=2.2), best, *style.verdict_keys(rows, marker="o", **MARK)]
