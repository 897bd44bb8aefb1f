"""The verdict on every file below a folder of results."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from kdq.errors import UserError
from kdq.provenance.mixtures import mixtures
from kdq.provenance.verify.contents import read_all
from kdq.provenance.verify.judge import SKIPPED, STATES, Judge, Verdict
from kdq.recipe.path import RESULTS, Cell
from kdq.study.products import METRICS, MODEL, Foreign, OfAnotherStudy, Product, Products

CHECKPOINT = "checkpoint.pt"
ASIDE = re.compile(r"\..+\.\d+")  # a file being written, see kdq.provenance.files.atomic

KEPT_PREFIX = ".kept."  # of what a job replaces, until it ends, see kdq.workflow.kept_outputs


@dataclass(frozen=True)
class Row:
    """A file below the results and the verdict on it; ``made`` if a job of the workflow makes it, with its header."""

    path: str
    verdict: Verdict
    made: bool
    header: dict = field(default_factory=dict)


def verify(study: Products, results: Path) -> list[Row]:
    """Return a row for every file below the folder ``results``, the fresh ones first; paths begin with ``results/``.

    Tables and figures of other studies have their rows, but are not judged: their config is another. Raise UserError if
    there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: no such folder, expected the results of a study")
    paths = dict.fromkeys(f"{RESULTS}/{path}" for path in files_below(results))
    products: dict[str, Product] = {}
    verdicts: dict[str, Verdict] = {}
    for path in paths:
        if verdict := _left_over(path, paths):
            verdicts[path] = verdict
            continue
        try:
            products[path] = study.of(path)
        except OfAnotherStudy as error:
            verdicts[path] = Verdict(SKIPPED, str(error))
        except Foreign as error:
            verdicts[path] = Verdict("foreign", str(error))
    contents = read_all(results, {path: product.outputs[path] for path, product in products.items()})
    judge = Judge(study, contents, products)
    headers = {path: content.header for path, content in contents.items()}
    rows = [
        Row(path, verdicts.get(path) or judge.verdict(path), path in products, headers.get(path, {})) for path in paths
    ]
    return sorted(rows, key=lambda row: ((*STATES, SKIPPED).index(row.verdict.state), row.path))


def files_below(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the relative paths of all files below ``folder``, sorted; links to folders are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def _left_over(path: str, paths) -> Verdict | None:
    """Return the verdict on a file that a killed job left behind."""
    file = PurePath(path)
    if file.name == CHECKPOINT and str(file.with_name(MODEL)) not in paths:
        return Verdict("incomplete", "of a training that was interrupted; started again, it goes on from here")
    if file.name.startswith(KEPT_PREFIX):
        return Verdict("incomplete", "kept while a job made it anew; the job's next run names it back or removes it")
    if file.name == CHECKPOINT or ASIDE.fullmatch(file.name):
        return Verdict("incomplete", "left over by a job that was killed; it may be removed")
    return None


def mixed(rows: list[Row], study: Products) -> list[str]:
    """Return a line for each mixture of precisions or machines among the intact metrics of the study's table."""
    intact = {row.path: row.header for row in rows if row.verdict.state in ("fresh", "stale")}
    return mixtures([intact[path] for path in study.report.inputs("table") if path in intact])


def summary(rows: list[Row], study: Products) -> str:
    """Return one line: how many files there are in each state, and how much of the study is evaluated."""
    counts = {state: sum(row.verdict.state == state for row in rows) for state in STATES}
    counted = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count or state == "fresh")
    there = {row.path for row in rows}
    cells = [Cell(dataset, seed, recipe.path).path(METRICS) for dataset, seed, recipe in study.study.cells()]
    evaluated = sum(path in there for path in cells)
    skipped = sum(row.verdict.state == SKIPPED for row in rows)
    parts = [counted, f"{evaluated:,} of the study's {len(cells):,} cells are evaluated"]
    parts += [f"{skipped:,} tables and figures of other studies are skipped"] if skipped else []
    return f"{len(rows) - skipped:,} files: {'; '.join(parts)}"
