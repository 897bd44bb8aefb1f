"""Accuracy against bit-operations.

Test accuracy against the arithmetic of one image, on a logarithmic axis: multiply-accumulates of convolutions and
linear layers times bits per weight times bits per activation, 32 for floats. The Pareto front is chosen on the
validation part, and drawn at the test accuracy of the models that are on it: points may lie above. It is numbered, with
names on the right. Bars are the sample standard deviation over seeds, if there are several. Bit-operations are a count,
not a time: a processor that multiplies bytes gains nothing from fewer than 8 bits.
"""

import pandas as pd

from kdq.report.figures import Figure, fronts, style
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="with_activations", table="summary")
read = SCHEMA.read


def draw(summary: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the summary: a point per recipe, those of the front numbered and named."""
    summary = summary[summary.dataset == dataset]
    points = summary.assign(
        cost=summary.bit_operations_mean / 1e9,
        accuracy=100 * summary.test_top1_mean,
        deviation=100 * summary.test_top1_std.fillna(0),
        validation=summary.validation_top1_mean,
    )
    looks, chosen = fronts.Looks(points), fronts.front(points, 0)
    numbers = {recipe: number for number, recipe in enumerate(chosen, 1)}
    with style.styled():
        keys = looks.keys() + fronts.front_keys(points, numbers, looks.names)
        figure = style.new_figure(style.WIDTH_INCHES, fronts.height(keys, 4.2))
        panel = figure.subplots()
        fronts.draw(panel, points, looks, numbers, chosen)
        style.accuracy_axis([panel])
        fronts.cost_axis(panel, points.cost)
        panel.set_xlabel("bit-operations per image (billions)")
        panel.set_ylabel("test accuracy (%)")
        title = f"{dataset}: test accuracy against bit-operations ({style.seeds_text(summary)})"
        panel.set_title(title, fontsize=10)
        figure.legend(handles=keys, loc="outside right upper", fontsize=7, handlelength=1.8, labelspacing=0.35)
    return figure
