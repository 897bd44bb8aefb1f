"""The tables and sentences of ``docs/results``, written by ``make docs`` from the CSV files beside the pages.

A block of a page is YAML in a comment, which goes on with what is written from it, up to ``<!-- end -->``::

    <!-- grid                                      a row per network, a column per quantizer
    file: cifar10-small/table.csv
    value: test_top1                               shares are in per cent; means over seeds have their deviation
    rows: {hard: "hard{}", distilled: "teacher/kd{}"}      recipes; {} is filled in by the column
    columns: {float: "", gpfq 4: "/gpfq,bits=4"}
    -->

    <!-- contrasts                                 a row per pair: test accuracy of the first less that of the second
    file: cifar10-orders/table.csv                 in points, paired by seed, with its interval
    rows: {trained on: ["hard,width={}/gpfq/qat", "hard,width={}/gpfq"]}
    columns: {narrow: "0.125", wide: "0.25"}
    -->                                            the other recipes are those of ``other_file``, if it is given

    <!-- list                                      a row per row of the file that has these values
    file: cifar10-methods/comparisons.csv
    beside: cifar10-methods/table.csv              of which further columns are taken by recipe
    where: {other: hard}
    sort: difference                               falling
    columns: {student: "{recipe}", points: "{difference:+.2f}", p: "{p_images_holm}"}
    -->

    <!-- sentence                                  of named rows, or of all seeds of a recipe, less those of another
    rows: {kd: {file: default/table.csv, recipe: teacher/kd, other: hard}}
    text: "Distillation gives {kd.difference:+.1f} points ({kd.low:.1f} to {kd.high:.1f}, {kd.row})."
    -->
"""

import re
import sys
from functools import partial
from pathlib import Path
from string import Formatter
from types import SimpleNamespace

import pandas as pd
import yaml
from scipy import stats

from kdq.errors import UserError
from kdq.report.tables import cells, comparisons, deployment, sequences, summary

PAGES = Path("docs/results")
BLOCK = re.compile(r"(<!-- (grid|contrasts|list|sentence)\n(.*?)\n-->\n).*?(<!-- end -->)", re.DOTALL)
SCHEMAS = [module.SCHEMA for module in (cells, comparisons, deployment, sequences, summary)]
SHARES = {name for schema in SCHEMAS for name, column in schema.columns.items() if column.unit == "share of 1"}
LEAST_P = 0.001  # smaller ones say no more


def page(path: Path) -> str:
    """Return the text of a page with its blocks written anew; raise UserError if one names a row that is not there."""

    def written(block: re.Match) -> str:
        head, kind, content, end = block.groups()
        try:
            return f"{head}{KINDS[kind](path.parent, yaml.safe_load(content))}\n{end}"
        except (KeyError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
            line = path.read_text(encoding="utf-8")[: block.start()].count("\n") + 1
            raise UserError(f"{path}: line {line}: the block can't be written ({error!r})") from None

    return BLOCK.sub(written, path.read_text(encoding="utf-8"))


def read(path: Path) -> pd.DataFrame:
    """Return a table, of whatever time, with shares in per cent, p-values as text and a column ``row`` of links."""
    frame = pd.read_csv(path, encoding="utf-8", dtype={"commit": "str"})  # 4550e07 is not a number
    shares = [name for name in frame.columns if name in SHARES]
    frame[shares] = frame[shares] * 100
    for name in frame.columns:
        if name.startswith("p_"):
            frame[name] = [_p(value) for value in frame[name]]
    frame["row"] = [f"[row]({path.parent.name}/{path.name}#L{line})" for line in range(2, len(frame) + 2)]
    return frame


def _p(value: float) -> str:
    return "" if pd.isna(value) else "< 0.001" if value < LEAST_P else f"{value:.2g}"


def grid(folder: Path, block: dict) -> str:
    """Return a Markdown table of one measure: recipes of networks down, what is done to them across."""
    values = _means(read(folder / block["file"]), block["value"])
    rows = []
    for name, recipe in block["rows"].items():
        asked = _of_columns(recipe, block)
        if not values.keys() & set(asked):
            raise KeyError(recipe)
        rows.append([name, *(values.get(cell, "") for cell in asked)])
    return _table(["", *block["columns"]], rows)


def contrasts(folder: Path, block: dict) -> str:
    """Return a Markdown table of differences: pairs of recipes down, what is inserted into both across."""
    frames = [read(folder / block[key]) for key in ("file", "other_file") if key in block]
    rows = []
    for name, pair in block["rows"].items():
        cells = list(map(partial(_difference, frames[0], frames[-1]), *(_of_columns(recipe, block) for recipe in pair)))
        if not any(cells):
            raise KeyError(str(pair))
        rows.append([name, *cells])
    return _table(["", *block["columns"]], rows)


def _of_columns(recipe: str, block: dict) -> list[str]:
    """Return a recipe once per column, with what the column inserts in place of {}."""
    return [recipe.replace("{}", str(inserted)) for inserted in block["columns"].values()]


def _difference(frame: pd.DataFrame, other_frame: pd.DataFrame, recipe: str, other: str) -> str:
    """Return the difference with its interval and a link to the first row of ``recipe``; "" if one is missing."""
    rows, others = frame[frame.recipe == recipe], other_frame[other_frame.recipe == other]
    if rows.empty or others.empty:
        return ""
    found = _contrast(rows, others)
    link = rows.row.iloc[0].replace("[row]", f"[{found['difference']:+.1f}]")
    return f"{link} ({found['low']:.1f} to {found['high']:.1f})"


def _means(frame: pd.DataFrame, value: str) -> dict[str, str]:
    """Return by recipe the mean of ``value`` over seeds, with its standard deviation if there are several."""
    if f"{value}_mean" in frame:
        found = frame.set_index("recipe")[[f"{value}_mean", f"{value}_std"]]
    else:
        found = frame.groupby("recipe")[value].agg(["mean", "std"])
    form = ",.2f" if value in SHARES else ",.0f"
    return {
        recipe: f"{mean:{form}}" + ("" if pd.isna(spread) or value not in SHARES else f" ± {spread:{form}}")
        for recipe, mean, spread in found.itertuples()
    }


def rows_of(folder: Path, block: dict) -> str:
    """Return a Markdown table of the rows of a file that have certain values."""
    frame = read(folder / block["file"])
    if "beside" in block:
        frame = frame.merge(read(folder / block["beside"]).drop(columns="row"), "left", "recipe", suffixes=("", "_"))
    frame = frame[_matching(frame, block["where"])]
    if frame.empty:
        raise KeyError(str(block["where"]))
    if "sort" in block:
        frame = frame.sort_values(block["sort"], ascending=False, kind="stable")
    texts = block["columns"].values()
    return _table(block["columns"], [[_filled(text, row) for text in texts] for row in frame.to_dict("records")])


def _filled(text: str, row: dict) -> str:
    """Return a text with values filled in, empty if one of them is missing."""
    asked = [name for _, name, *_ in Formatter().parse(text) if name]
    return "" if any(pd.isna(row[name]) for name in asked) else text.format(**row)


def _matching(frame: pd.DataFrame, values: dict) -> pd.Series:
    """Return which rows have each of ``values``, or one of a list of them."""
    matching = pd.Series(True, frame.index)
    for name, value in values.items():
        matching &= frame[name].isin(value if isinstance(value, list) else [value])
    return matching


def sentence(folder: Path, block: dict) -> str:
    """Return a text with the numbers of rows filled in."""
    return block["text"].format(**{name: _facts(folder, dict(row)) for name, row in block["rows"].items()}).strip()


def _facts(folder: Path, values: dict) -> SimpleNamespace:
    """Return the fields of the one row with these values; of a table with a row per seed the means over all seeds.

    These have the fields ``seeds`` and ``deviation`` too, and those of :func:`_contrast` if ``other`` names a recipe.
    """
    frame = read(folder / values.pop("file"))
    other = values.pop("other", None) if "seed" in frame else None
    rows = frame[_matching(frame, values)]
    if len(rows) != (rows.seed.nunique() if "seed" in frame else 1) or rows.empty:
        raise ValueError(f"{len(rows)} rows have {values}, expected one")
    facts = rows.iloc[0].to_dict()
    if "seed" in frame:
        facts |= rows.mean(numeric_only=True).to_dict() | {"seeds": len(rows), "deviation": rows.test_top1.std()}
        facts |= _contrast(rows, frame[frame.recipe == other]) if other else {}
    return SimpleNamespace(**facts)


def _contrast(rows: pd.DataFrame, others: pd.DataFrame) -> dict:
    """Return the mean difference of test accuracies, paired by seed, and its 95% interval by the t test."""
    differences = (rows.set_index("seed").test_top1 - others.set_index("seed").test_top1).dropna()
    interval = stats.ttest_1samp(differences, 0).confidence_interval()
    return {"difference": differences.mean(), "low": interval.low, "high": interval.high, "seeds": len(differences)}


def _table(names, rows) -> str:
    lines = [names, ["---"] * len(list(names)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


KINDS = {"grid": grid, "contrasts": contrasts, "list": rows_of, "sentence": sentence}

if __name__ == "__main__":
    try:
        texts = {path: page(path) for path in sorted(PAGES.glob("*.md"))}
    except UserError as error:
        sys.exit(f"error: {error}")
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(path)
