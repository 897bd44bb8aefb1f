"""Which test images each model classifies correctly, from the files of predictions."""

import pandas as pd

from kdq.data.prepared import read as read_data
from kdq.errors import UserError
from kdq.evaluate import predictions as predictions_file
from kdq.recipe.path import Cell
from kdq.report.metrics import check_cell
from kdq.report.tables.comparisons import Answers


def read(data_files: list, prediction_files: list) -> Answers:
    """Return for each cell whether each test image is classified correctly, boolean (M,).

    Raise UserError if predictions are those of another cell, or of other data than ``data_files`` hold.
    """
    labels = {data.dataset: data.test.labels.numpy() for data in map(read_data, data_files)}
    correct = {}
    for path in prediction_files:
        header, tensors = predictions_file.read(path)
        check_cell(path, header)
        cell = Cell.of(path)
        if cell.dataset not in labels:
            raise UserError(f"{path}: of the data set {cell.dataset!r}, expected one of {', '.join(labels)}")
        expected = labels[cell.dataset]
        correct[cell] = predictions_file.classes(path, tensors, "test", len(expected)).numpy() == expected
    return correct


def check_rows(path, table: pd.DataFrame, correct: Answers) -> None:
    """Raise UserError unless the table of all cells, in the file ``path``, has one row for each cell of ``correct``."""
    cells = [Cell(*row) for row in table[["dataset", "seed", "recipe"]].itertuples(index=False)]
    if len(cells) != len(correct) or set(cells) != correct.keys():
        known = len(set(cells) & correct.keys())
        raise UserError(
            f"{path}: found {len(cells):,} rows, {known:,} of cells with predictions, expected one row for each of "
            f"{len(correct):,}"
        )
