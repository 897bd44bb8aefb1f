"""Measure how planning grows with the grid: a table (CSV) and a figure (PNG, SVG).

    python -m benchmarks.planning_growth [--cells 100 1000 10000 100000] [--finished 100 1000 10000]
        [--table benchmarks/results/planning_growth.csv] [--figure benchmarks/results/planning_growth]

``new``: `snakemake -n` before anything is made. ``finished``: the same with every cell made, and only comparisons and
figures left; the results are made up (see benchmarks.finished) and adopted by `make adopt`, which is timed separately,
as is `make verify`.
"""

import argparse
import csv
import os
import tempfile
from pathlib import Path

from benchmarks.finished import finished, plan, timed
from benchmarks.planning import grid
from kdq.report.figures import style

COLUMNS = ("what", "cells", "seconds", "memory_mib", "load")
LABELS = {
    "new": "snakemake -n, nothing made",
    "finished": "snakemake -n, all cells made",
    "verify": "make verify",
    "adopt": "make adopt",
}


def planned(cells: int) -> dict:
    """Return a row of the table: the plan of a grid before anything is made."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "study.yaml")
        config.write_text(grid(cells), encoding="utf-8")
        return row("new", cells, *timed(Path(folder), *plan(config)))


def row(what: str, cells: int, seconds: float, memory: float) -> dict:
    figures = (what, cells, round(seconds, 2), round(memory), round(os.getloadavg()[0], 1))
    return dict(zip(COLUMNS, figures, strict=True))


def draw(rows: list[dict]):
    """Draw seconds and memory over cells, both axes logarithmic."""
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 2.9)
        panels = figure.subplots(1, 2)
        for panel, (column, label) in zip(
            panels, {"seconds": "seconds", "memory_mib": "memory, MiB"}.items(), strict=True
        ):
            for index, what in enumerate(what for what in LABELS if any(row["what"] == what for row in rows)):
                points = sorted((row["cells"], row[column]) for row in rows if row["what"] == what)
                look = {"color": style.COLOURS[index], "marker": style.MARKERS[index]}
                panel.plot(*zip(*points, strict=True), label=LABELS[what], **look)
            panel.set(xlabel="cells of the grid", ylabel=label, xscale="log", yscale="log")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="*", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--finished", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--table", type=Path, default=Path("benchmarks/results/planning_growth.csv"))
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/results/planning_growth"))
    options = parser.parse_args()
    options.table.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with open(options.table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()

        def add(row: dict) -> None:
            rows.append(row)
            writer.writerow(row)
            file.flush()
            print(row, flush=True)

        for cells in options.cells:
            add(planned(cells))
        for cells in options.finished:
            for what, measured in finished(cells).items():
                add(row(what, cells, *measured))
    style.save(draw(rows), *(options.figure.with_suffix(end) for end in (".png", ".svg")))


if __name__ == "__main__":
    main()
