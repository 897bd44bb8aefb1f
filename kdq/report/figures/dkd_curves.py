"""DKD over its weights, by epoch.

Validation accuracy after each epoch of DKD, one panel per weight of the label's class (alpha), one line per weight of
the other classes (beta). With several seeds the line is their mean and the band their range. The axis of accuracy
is stretched towards 100 %. Colours go from dark to light with beta.
"""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from kdq.report.figures import Figure, curves, style

FIGURE = Figure(shows="dkd_grid", cell_file="history.csv", parameters=("dkd_grid",))
read = curves.read

FEW_LINES = 5  # of a narrow panel


def draw(histories: pd.DataFrame, dataset: str, dkd_grid: dict[str, tuple[float, float]]):
    """Draw the histories of the grid's recipes; ``dkd_grid`` has alpha and beta of each."""
    recipes = {tuple(point): recipe for recipe, point in dkd_grid.items()}
    alphas, betas = (sorted({point[axis] for point in recipes}) for axis in (0, 1))
    columns = min(4 if len(betas) <= FEW_LINES else 2, len(alphas))
    rows = -(-len(alphas) // columns)
    looks = [style.of_value(index, len(betas)) for index in range(len(betas))]
    with style.styled():
        figure = style.new_figure(
            style.WIDTH_INCHES if columns > 1 else 4.5, 0.8 + (2.2 if columns > 2 else 2.7) * rows
        )
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, alpha in zip(panels, alphas, strict=False):
            for index, beta in enumerate(betas):
                if recipe := recipes.get((alpha, beta)):
                    runs = histories[histories.recipe == recipe]
                    aside = index / len(betas)
                    curves.draw(panel, runs, "validation_accuracy", looks[index], scale=100, aside=aside)
            panel.set_title(f"$\\alpha$ = {alpha:g}")
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            panel.tick_params(labelbottom=True)
        style.accuracy_axis(panels[: len(alphas)])
        for panel in panels[len(alphas) :]:
            panel.remove()
        for panel in panels[::columns]:
            panel.set_ylabel(f"validation accuracy (%){style.STRETCHED}")
        keys = [style.key(f"$\\beta$ = {beta:g}", **look) for beta, look in zip(betas, looks, strict=True)]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(6, len(keys)), handlelength=3.2)
        figure.suptitle(f"{dataset}: DKD over its two weights ({style.seeds_text(histories)})")
    return figure
