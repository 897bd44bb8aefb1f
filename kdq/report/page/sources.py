"""What the page is made from: a study's tables, and of every cell metrics, history and predictions. No torch."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from kdq.errors import UserError
from kdq.provenance import formats
from kdq.provenance.files import read_header
from kdq.provenance.place import check_data
from kdq.recipe.path import Cell
from kdq.report import metrics, record
from kdq.report.figures.curves import read_history
from kdq.report.metrics import check_cell
from kdq.report.tables import cells, comparisons, deployment, summary

SCHEMAS = {module.SCHEMA.name: module.SCHEMA for module in (cells, summary, comparisons, deployment)}


@dataclass(frozen=True)
class TestPart:
    """The test part of a data set: names of the classes, and the labels, whole numbers (M,)."""

    classes: list[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Sources:
    """All that the page shows; ``predicted`` are the classes (M,) of each cell's test images.

    ``tables`` by name: those of ``SCHEMAS``, without ``deployment`` if the study has no times. ``kinds`` is the kind of
    every stage by its name, ``figures`` the names of the figures beside the page.
    """

    study: str
    tables: dict[str, pd.DataFrame]
    parts: dict[str, TestPart]
    metrics: dict[Cell, dict]
    histories: dict[Cell, pd.DataFrame]
    predicted: dict[Cell, np.ndarray]
    kinds: dict[str, str]
    figures: list[str] = field(default_factory=list)


def read(study: str, source, job: dict) -> Sources:
    """Return the content of the input files of the page, lists by role; raise UserError for one that is not whole.

    Roles: ``tables``, ``data``, ``metrics``, ``histories`` and ``predictions``.
    """
    parts = dict(map(read_part, source.data))
    return Sources(
        study,
        {Path(path).stem: read_recorded(path) for path in source.tables},
        parts,
        {Cell.of(path): metrics.read(path) for path in source.metrics},
        {Cell.of(path): read_history(path) for path in source.histories},
        {Cell.of(path): read_predicted(path, parts) for path in source.predictions},
        job["kinds"],
        job["figures"],
    )


def read_recorded(path) -> pd.DataFrame:
    """Return a table; raise UserError if it is not what was written."""
    record.check(path)
    return SCHEMAS[Path(path).stem].read(path)


def read_part(path) -> tuple[str, TestPart]:
    """Return the name of the data set in the file ``path`` and its test part."""
    check_data(path)
    header = read_header(path, formats.DATA)
    labels, classes = _array(path, "test.labels"), header.get("classes")
    if not isinstance(classes, list) or not ((labels >= 0) & (labels < len(classes))).all():
        raise UserError(f"{path}: test.labels: found labels without a name, expected those of its classes")
    return header["dataset"], TestPart([str(name) for name in classes], labels)


def read_predicted(path, parts: dict[str, TestPart]) -> np.ndarray:
    """Return the classes (M,) that a cell predicts for the test images of its data set."""
    check_cell(path, read_header(path, formats.PREDICTIONS))
    dataset = Cell.of(path).dataset
    if dataset not in parts:
        raise UserError(f"{path}: of the data set {dataset!r}, expected one of {', '.join(parts)}")
    predicted, part = _array(path, "test_class"), parts[dataset]
    if len(predicted) != len(part.labels):
        raise UserError(f"{path}: test_class: found {len(predicted):,} images, expected {len(part.labels):,}")
    if not ((predicted >= 0) & (predicted < len(part.classes))).all():
        raise UserError(f"{path}: test_class: found classes beyond the {len(part.classes)} of the data set")
    return predicted


def _array(path, name: str) -> np.ndarray:
    """Return a tensor of whole numbers (M,) in a safetensors file."""
    try:
        with safe_open(path, "np") as file:
            array = file.get_tensor(name)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {name}: not readable ({error}); remove it and run again") from None
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(f"{path}: {name}: found {array.dtype} {array.shape}, expected one whole number per image")
    return array.astype(np.int64)
