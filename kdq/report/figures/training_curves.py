"""Figure: training loss and validation accuracy after each epoch, a line a trained model."""

from matplotlib.ticker import MaxNLocator

from kdq.report.figures import curves, style


def draw(histories: dict[str, list[dict]], quantized: list[str], dataset: str):
    """The figure of ``histories``: for each recipe the histories of its seeds; ``quantized`` sets the order."""
    networks = style.in_order(histories, quantized)
    names = style.labels(networks)
    with style.styled():
        legend_rows = -(-len(networks) // 3)
        figure = style.new_figure(style.WIDTH_INCHES, 3.0 + 0.19 * legend_rows)
        loss, accuracy = figure.subplots(1, 2)
        for index, network in enumerate(networks):
            runs, look = histories[network], style.of_curve(index)
            curves.draw(loss, runs, "loss", look, label=names[network])
            curves.draw(accuracy, runs, "validation_accuracy", look, scale=100)
        loss.set_yscale("log")
        style.accuracy_axis([accuracy])
        loss.set_ylabel("training loss (sum of its terms)")
        accuracy.set_ylabel("validation accuracy (%)")
        for panel in (loss, accuracy):
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=3, handlelength=3.2)
        seeds = max(len(runs) for runs in histories.values())
        figure.suptitle(f"{dataset}: training ({style.seeds_text(seeds)})")
    return figure
