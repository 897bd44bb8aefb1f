"""Layers quantized alone.

Cost of quantizing each layer alone: the Kullback-Leibler divergence of the predictions on validation images from those
of the float network, on a logarithmic scale of colour, mean over seeds. Layers in order of execution, each on its
inputs in the float network. Bits under a budget are chosen by these numbers, or by the loss or accuracy beside them in
the table.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from kdq.recipe.path import parent, stages
from kdq.report.bits import in_words
from kdq.report.figures import Figure, style
from kdq.report.tables.sensitivities import SCHEMA

FIGURE = Figure(shows="measured", table="sensitivity")
read = SCHEMA.read

NAMES_INCHES = 0.75  # for the layers' names below a panel


def grids(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return for each recipe the divergence (bits, layers) in nats, mean over the seeds, layers in order."""
    divergences = {
        recipe: rows.groupby(["bits", "layer"]).kl.mean() for recipe, rows in table.groupby("recipe", sort=False)
    }
    layers = table.groupby("recipe").layer.unique()
    return {recipe: divergence.unstack()[layers[recipe]] for recipe, divergence in divergences.items()}


def draw(table: pd.DataFrame, dataset: str):
    """Draw one data set's rows of the table of sensitivities, of all seeds."""
    table = table[table.dataset == dataset]
    panels = grids(table)
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 0.7 + (1.55 + NAMES_INCHES) * len(panels))
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        norm = _norm(panels.values())
        for panel, (recipe, grid) in zip(axes, panels.items(), strict=True):
            image = _draw_panel(panel, grid, norm)
            title = f"{parent(recipe)}, each layer by {in_words(stages(recipe)[-1])}"
            panel.set_title(title.replace(",", ", ").replace(",  ", ", "))
        axes[-1].set_xlabel("layer that alone is quantized, in order of execution")
        figure.colorbar(image, ax=axes, label="KL(float, quantized)\n(nats per image)", aspect=18 * len(panels))
        figure.suptitle(f"{dataset}: what each layer costs alone at each bit-width ({style.seeds_text(table)})")
    return figure


def _norm(grids) -> LogNorm:
    """Return one logarithmic scale for all panels; a divergence of 0 has the colour of the least positive one."""
    values = np.concatenate([grid.to_numpy()[grid > 0] for grid in grids])
    low, high = (values.min(), values.max()) if len(values) else (1e-9, 1e-9)
    return LogNorm(low, max(high, 10 * low), clip=True)


def _draw_panel(panel, grid: pd.DataFrame, norm: LogNorm):
    bits, layers = grid.index, grid.columns
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.set_xticks(range(len(layers)), layers, rotation=90, fontsize=6 if len(layers) < 40 else 4.5)
    panel.set_yticks(range(len(bits)), [str(width) for width in bits])
    panel.set_ylabel("bits per weight")
    panel.tick_params(length=0)
    # zeros would be masked by a logarithmic scale
    return panel.imshow(np.maximum(grid, norm.vmin), cmap="cividis", norm=norm, aspect="auto", origin="lower")
