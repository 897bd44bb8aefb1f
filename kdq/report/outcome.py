"""What a study came to, in some ten lines: the end of a run."""

from pathlib import Path

import pandas as pd

from kdq.errors import UserError
from kdq.recipe.kinds import DISTILL
from kdq.recipe.path import name_of, stages
from kdq.report import fastest, pareto
from kdq.report.bits import nearest_tenth
from kdq.report.tables import deployment, summary
from kdq.report.tables.schema import Schema

MOST_MODELS = 5  # of the Pareto front
MOST_NAME = 44  # characters
PAGE = "index.html"


def lines(folder) -> list[str]:
    """Return what the tables in the ``folder`` of a study say, and where they lie; [] if there is no summary."""
    folder = Path(folder)
    table, timed = _read(summary.SCHEMA, folder / "summary.csv"), _read(deployment.SCHEMA, folder / "deployment.csv")
    if table is None:
        return []
    datasets = [line for _, rows in table.groupby("dataset") for line in of_dataset(rows)]
    page = folder / PAGE
    where = f"page: {page}" if page.exists() else f"tables and figures: {folder}"
    return ["", *datasets, *([] if timed is None else fastest.lines(timed)), where]


def _read(schema: Schema, path: Path) -> pd.DataFrame | None:
    """Return a table, None if it is not there or not as it should be: the jobs that read it tell what is wrong."""
    try:
        return schema.read(path) if path.exists() else None
    except UserError:
        return None


def of_dataset(rows: pd.DataFrame) -> list[str]:
    """Return the lines of one data set: the Pareto front by validation, the best student, what bits cost."""
    points = list(zip(rows.file_bytes_mean, rows.validation_top1_mean, strict=True))
    front = rows.iloc[pareto.front(points)]
    shown = front[::-1][:MOST_MODELS]
    more = f", {len(shown)} of {len(front)}" if len(front) > len(shown) else ""
    seeds = int(rows.seeds.max())
    title = f"{rows.dataset.iloc[0]}: best for their size{more} ({'one seed' if seeds == 1 else f'{seeds} seeds'})"
    heading = f"{title:<{MOST_NAME}}  validation     test       bytes"
    return [heading, *(_model(row) for row in shown.itertuples()), *_best_student(rows), *_drops(rows)]


def _model(row) -> str:
    name = row.recipe if len(row.recipe) <= MOST_NAME - 2 else f"...{row.recipe[5 - MOST_NAME :]}"
    accuracies = f"{row.validation_top1_mean:10.2%}  {row.test_top1_mean:7.2%}"
    return f"  {name:<{MOST_NAME - 2}}  {accuracies}  {row.file_bytes_mean:10,.0f}"


def _best_student(rows: pd.DataFrame) -> list[str]:
    """Return a line on the float student that is best on validation, beside its root."""
    students = rows[rows.kind == DISTILL.name]
    if students.empty:
        return []
    best = students.loc[students.validation_top1_mean.idxmax()]
    roots = rows[rows.recipe == stages(best.recipe)[0]]
    beside = f" ({roots.recipe.iloc[0]} {roots.test_top1_mean.iloc[0]:.2%})" if len(roots) else ""
    return [f"best distilled student by validation: {best.recipe}, test {best.test_top1_mean:.2%}{beside}"]


def _drops(rows: pd.DataFrame) -> list[str]:
    """Return a line per quantizer: points of test accuracy that its networks lose at each number of bits."""
    of_float = rows.set_index("recipe").test_top1_mean
    quantized = rows[(rows.quantizer != "none") & rows.network.isin(of_float.index) & (rows.activation_bits == 32)]
    if quantized.empty:
        return []
    lost = 100 * (quantized.test_top1_mean - quantized.network.map(of_float))
    lines = []
    for name, drops in lost.groupby(quantized.recipe.map(lambda recipe: name_of(stages(recipe)[-1]))):
        means = drops.groupby(quantized.bits[drops.index].map(nearest_tenth)).mean()[::-1]
        at_bits = ", ".join(f"{round(points, 1) + 0.0:+.1f} at {bits:g}" for bits, points in means.items())
        lines.append(f"{name}, points of test accuracy by bits: {at_bits}")
    return lines
