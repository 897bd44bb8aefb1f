"""DKD over its weights.

Test accuracy over DKD's two weights, mean over seeds, ± the sample standard deviation if there are several. The framed
pair has the highest validation accuracy, among equals the lowest validation cross entropy; the test part is not used
for the choice.
"""

import math

import pandas as pd
from matplotlib.patches import Rectangle

from kdq.errors import UserError
from kdq.report import metrics
from kdq.report.dkd_choice import choose
from kdq.report.figures import Figure, style

FIGURE = Figure(shows="dkd_grid", cell_file="metrics.json")


def read(*paths) -> pd.DataFrame:
    """Return alpha, beta and measures of DKD's cells; raise UserError for the metrics of a cell of another method."""
    return pd.DataFrame([_row(metrics.read(path)) for path in paths])


def _row(cell: dict) -> dict:
    if not {"alpha", "beta"} <= cell["keys"].keys():
        raise UserError(f"metrics of {cell['recipe']!r}: no alpha and beta, expected the keys of dkd")
    validation = {f"validation_{measure}": cell["validation"][measure] for measure in ("top1", "cross_entropy")}
    weights = {name: cell["keys"][name] for name in ("alpha", "beta")}
    return {**weights, **validation, "seed": cell["seed"], "test_accuracy": 100 * cell["test"]["top1"]}


def draw(cells: pd.DataFrame, dataset: str):
    """Draw the accuracy over DKD's two weights, mean and deviation over seeds."""
    values = cells.groupby(["alpha", "beta"]).test_accuracy.agg(["mean", "std"])
    grid = values["mean"].unstack()
    alphas, betas = grid.index.tolist(), grid.columns.tolist()
    with style.styled():
        figure = style.new_figure(1.9 + 0.85 * len(betas), 1.6 + 0.6 * len(alphas))
        panel = figure.subplots()
        image = panel.imshow(grid, cmap="cividis", aspect="auto", origin="lower")
        for (alpha, beta), mean, deviation in values.itertuples():
            _write(panel, (betas.index(beta), alphas.index(alpha)), mean, deviation, image)
        _frame(panel, choose(cells), alphas, betas)
        panel.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])
        panel.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
        panel.set_xlabel("$\\beta$, weight of the other classes")
        panel.set_ylabel("$\\alpha$, weight of the label's class")
        panel.grid(False)
        panel.spines[:].set_visible(False)
        figure.colorbar(image, label="test accuracy (%)")
        seeds = style.seeds_text(cells)
        panel.set_title(f"{dataset}: DKD, test accuracy (%)\n({seeds}; framed: chosen on validation)")
    return figure


def _write(panel, position: tuple[int, int], mean: float, deviation: float, image) -> None:
    red, green, blue, _ = image.cmap(image.norm(mean))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    text = f"{mean:.1f}" if math.isnan(deviation) else f"{mean:.1f}\n± {deviation:.1f}"
    panel.text(*position, text, ha="center", va="center", color="white" if dark else "black")


def _frame(panel, point: tuple[float, float], alphas: list[float], betas: list[float]) -> None:
    left, bottom = betas.index(point[1]) - 0.5, alphas.index(point[0]) - 0.5
    # white inside black: visible on every colour of the map and in grey
    for colour, width in (("black", 5.0), ("white", 2.2)):
        box = Rectangle((left + 0.03, bottom + 0.045), 0.94, 0.91, fill=False, edgecolor=colour, linewidth=width)
        panel.add_patch(box)
