"""Training.

Training loss and validation accuracy after each epoch, one line per trained model. The loss is the sum of the method's
terms, so that its level compares epochs of one method, not methods. With several seeds the line is their mean and the
band their range. Of a large grid over DKD's weights only models with descendants are shown. The axis of accuracy widens
towards 100 %.
"""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from kdq.report.figures import Figure, curves, style

FIGURE = Figure(shows="trained", cell_file="history.csv", parameters=("quantized_networks",))
read = curves.read


def draw(histories: pd.DataFrame, dataset: str, quantized_networks: list[str]):
    """Draw the histories of recipes; those in ``quantized_networks`` come first."""
    networks = style.in_order(set(histories.recipe), quantized_networks)
    names = {network: style.wrapped(name, 60) for network, name in style.labels(networks).items()}
    with style.styled():
        columns = style.legend_columns(names.values())
        figure = style.new_figure(style.WIDTH_INCHES, 3.0 + 0.19 * -(-len(networks) // columns))
        loss, accuracy = figure.subplots(1, 2)
        for index, network in enumerate(networks):
            runs, look = histories[histories.recipe == network], style.of_curve(index)
            curves.draw(loss, runs, "loss", look, label=names[network])
            curves.draw(accuracy, runs, "validation_accuracy", look, scale=100)
        loss.set_yscale("log")
        style.accuracy_axis([accuracy])
        loss.set_ylabel("training loss (sum of its terms)")
        accuracy.set_ylabel(f"validation accuracy (%){style.STRETCHED}")
        for panel in (loss, accuracy):
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=columns, handlelength=3.2)
        figure.suptitle(f"{dataset}: training ({style.seeds_text(histories)})")
    return figure
