"""Accuracy against size.

Test accuracy against the size of the model's file, on a logarithmic axis. The Pareto front is chosen on the validation
part (up to 2 % more bytes count as the same size), and drawn at the test accuracy of the models that are on it: points
may lie above. It is numbered, with names on the right. The axis widens towards 100 %, so that differences of a per cent
between good networks are visible beside the collapse at few bits. Bars are the sample standard deviation over seeds, if
there are several.
"""

import pandas as pd

from kdq.report.figures import Figure, fronts
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="recipes", table="summary")
read = SCHEMA.read

SAME_SIZE = 0.02  # files of equal networks differ by the names in their headers, which is no reason to prefer one


def draw(summary: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the summary: a point per recipe, those of the front numbered and named."""
    rows = summary[summary.dataset == dataset]
    axis, title = "size of the model's file (kB, 1 kB = 1000 bytes)", f"{dataset}: test accuracy against size"
    return fronts.figure(rows, rows.file_bytes_mean / 1e3, axis, title, by="quantizer", tolerance=SAME_SIZE)
