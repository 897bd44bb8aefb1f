"""Accuracy against bit-operations.

Test accuracy against the arithmetic of one image, on a logarithmic axis: multiply-accumulates of convolutions and
linear layers times bits per weight times bits per activation, 32 for floats. The Pareto front is chosen on the
validation part, and drawn at the test accuracy of the models that are on it: points may lie above. It is numbered, with
names on the right. Bars are the sample standard deviation over seeds, if there are several. Bit-operations are a count,
not a time: a processor that multiplies bytes gains nothing from fewer than 8 bits.
"""

import pandas as pd

from kdq.report.figures import Figure, fronts
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="quantized", table="summary")
read = SCHEMA.read


def draw(summary: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the summary: a point per recipe, those of the front numbered and named."""
    rows = summary[summary.dataset == dataset]
    axis, title = "bit-operations per image (billions)", f"{dataset}: test accuracy against bit-operations"
    return fronts.figure(rows, rows.bit_operations_mean / 1e9, axis, title)
