"""Figure: validation accuracy after each epoch of DKD, one panel an alpha, a line a beta."""

from matplotlib.ticker import MaxNLocator

from kdq.report.figures import curves, style


def draw(histories: dict[tuple[float, float], list[dict]], dataset: str):
    """The figure of ``histories``: for each (alpha, beta) the histories of its seeds."""
    alphas, betas = (sorted({point[axis] for point in histories}) for axis in (0, 1))
    columns = min(4, len(alphas))
    rows = -(-len(alphas) // columns)
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES if columns > 1 else 4.5, 0.8 + 2.2 * rows)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, alpha in zip(panels, alphas, strict=False):
            for index, beta in enumerate(betas):
                if (alpha, beta) in histories:
                    runs = histories[alpha, beta]
                    curves.draw(panel, runs, "validation_accuracy", style.of_curve(index), scale=100)
            panel.set_title(f"$\\alpha$ = {alpha:g}")
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            panel.tick_params(labelbottom=True)
        style.accuracy_axis(panels[: len(alphas)])
        for panel in panels[len(alphas) :]:
            panel.remove()
        for panel in panels[::columns]:
            panel.set_ylabel("validation accuracy (%)")
        keys = [style.key(f"$\\beta$ = {beta:g}", **style.of_curve(index)) for index, beta in enumerate(betas)]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(6, len(keys)), handlelength=3.2)
        seeds = max(len(runs) for runs in histories.values())
        figure.suptitle(f"{dataset}: DKD over its two weights ({style.seeds_text(seeds)})")
    return figure
