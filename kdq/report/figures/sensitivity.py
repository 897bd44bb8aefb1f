"""Figure: what each layer costs alone at each bit-width, one panel a network and quantizer."""

from itertools import groupby
from statistics import fmean

import numpy as np
from matplotlib.colors import LogNorm

from kdq.report.figures import style

NAMES_INCHES = 0.75  # for the layers' names below a panel


def grids(table: list[dict]) -> dict[str, tuple[list[str], list[int], np.ndarray]]:
    """For each recipe its layers in order, the bits, and the divergence (bits, layers) in nats, mean over the seeds."""
    found = {}
    for recipe, rows in groupby(table, lambda row: row["recipe"]):
        divergences: dict[tuple[int, str], list[float]] = {}
        for row in rows:
            divergences.setdefault((row["bits"], row["layer"]), []).append(row["kl"])
        layers, bits = list(dict.fromkeys(layer for _, layer in divergences)), sorted({b for b, _ in divergences})
        grid = np.array([[fmean(divergences[b, layer]) for layer in layers] for b in bits])
        found[recipe] = layers, bits, grid
    return found


def draw(table: list[dict], dataset: str):
    """The figure of one data set's rows of the table of sensitivities, of all seeds."""
    table = [row for row in table if row["dataset"] == dataset]
    panels = grids(table)
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 0.7 + (1.55 + NAMES_INCHES) * len(panels))
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        norm = _norm([grid for _, _, grid in panels.values()])
        for panel, (recipe, (layers, bits, grid)) in zip(axes, panels.items(), strict=True):
            image = _draw_panel(panel, layers, bits, grid, norm)
            network, quantizer = recipe.replace(",", ", ").rsplit("/", 1)
            panel.set_title(f"{network}, each layer by {quantizer}")
        axes[-1].set_xlabel("layer that alone is quantized, in order of execution")
        figure.colorbar(image, ax=axes, label="KL(float, quantized)\n(nats an image)", aspect=18 * len(panels))
        seeds = style.seeds_text(len({row["seed"] for row in table}))
        figure.suptitle(f"{dataset}: what each layer costs alone at each bit-width ({seeds})")
    return figure


def _norm(grids: list[np.ndarray]) -> LogNorm:
    """One logarithmic scale for all panels; a divergence of exactly 0 has the colour of the least other one."""
    values = np.concatenate([grid[grid > 0] for grid in grids])
    low, high = (values.min(), values.max()) if len(values) else (1e-9, 1e-9)
    return LogNorm(low, max(high, 10 * low), clip=True)


def _draw_panel(panel, layers: list[str], bits: list[int], grid: np.ndarray, norm: LogNorm):
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.set_xticks(range(len(layers)), layers, rotation=90, fontsize=6 if len(layers) < 40 else 4.5)
    panel.set_yticks(range(len(bits)), [str(b) for b in bits])
    panel.set_ylabel("bits a weight")
    panel.tick_params(length=0)
    # zeros would be masked by a logarithmic scale
    return panel.imshow(np.maximum(grid, norm.vmin), cmap="cividis", norm=norm, aspect="auto", origin="lower")
