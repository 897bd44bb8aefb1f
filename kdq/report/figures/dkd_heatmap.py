"""Figure: test accuracy of DKD over alpha and beta, the pair chosen on the validation part framed."""

from matplotlib.patches import Rectangle

from kdq.report.dkd_choice import Point, choose
from kdq.report.figures import style
from kdq.report.tables.summary import mean_and_deviation


def draw(cells: dict[Point, list[dict]], dataset: str):
    """The figure of ``cells``: for each (alpha, beta) the metrics of its seeds."""
    alphas, betas = (sorted({point[axis] for point in cells}) for axis in (0, 1))
    values = {
        point: mean_and_deviation([100 * metrics["test"]["top1"] for metrics in seeds])
        for point, seeds in cells.items()
    }
    grid = [[values.get((alpha, beta), (float("nan"),))[0] for beta in betas] for alpha in alphas]
    with style.styled():
        figure = style.new_figure(1.9 + 0.85 * len(betas), 1.6 + 0.6 * len(alphas))
        panel = figure.subplots()
        image = panel.imshow(grid, cmap="cividis", aspect="auto", origin="lower")
        for point, value in values.items():
            place = betas.index(point[1]), alphas.index(point[0])
            _write(panel, place, value, image)
        _frame(panel, choose(cells), alphas, betas)
        panel.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])
        panel.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
        panel.set_xlabel("$\\beta$, weight of the other classes")
        panel.set_ylabel("$\\alpha$, weight of the label's class")
        panel.grid(False)
        panel.spines[:].set_visible(False)
        figure.colorbar(image, label="test accuracy (%)")
        seeds = style.seeds_text(max(len(runs) for runs in cells.values()))
        panel.set_title(f"{dataset}: DKD, test accuracy (%)\n({seeds}; framed: chosen on validation)")
    return figure


def _write(panel, place: tuple[int, int], value: tuple, image) -> None:
    mean, deviation = value
    red, green, blue, _ = image.cmap(image.norm(mean))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    text = f"{mean:.1f}" if deviation is None else f"{mean:.1f}\n± {deviation:.1f}"
    panel.text(*place, text, ha="center", va="center", color="white" if dark else "black")


def _frame(panel, point: Point, alphas: list[float], betas: list[float]) -> None:
    left, bottom = betas.index(point[1]) - 0.5, alphas.index(point[0]) - 0.5
    # white inside black: seen on every colour of the map and in grey
    for colour, width in (("black", 5.0), ("white", 2.2)):
        box = Rectangle((left + 0.03, bottom + 0.045), 0.94, 0.91, fill=False, edgecolor=colour, linewidth=width)
        panel.add_patch(box)
