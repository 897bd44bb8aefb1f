"""What the report shows, decided from a study's recipes alone, so that a figure with nothing to show is no target."""

from dataclasses import dataclass
from functools import cached_property

from kdq.recipe.grammar import Recipe, Stage
from kdq.recipe.measurement import measured_recipe
from kdq.report import pairs

FIGURES = (
    "accuracy_vs_bits",
    "accuracy_vs_bytes",
    "comparisons",
    "sequences",
    "training_curves",
    "dkd_curves",
    "dkd_heatmap",
    "layer_errors",
    "sensitivity",
)
MOST_STUDENTS = 60  # rows of the figure of comparisons; more are in its table alone
FEW_RETRAINED = 8  # every bit-width has retrained models of its own; of more no training curve is drawn
FEW_POINTS = 3  # a grid over alpha and beta of more points is left out of the training curves: it has its own figure


@dataclass(frozen=True)
class DkdPoint:
    """A cell of the grid over DKD's weights: the recipe, and its alpha and beta with all defaults filled in."""

    recipe: str
    alpha: float
    beta: float


class Contents:
    """What the tables and figures of a study are made from: recipes by their paths, the same for every data set."""

    def __init__(self, study):
        self.grammar = study.grammar
        asked = {recipe.path: recipe for recipe in study.recipes}
        ancestors = {recipe.path: recipe for cell in study.recipes for recipe in cell.ancestors}
        self.asked = list(asked.values())
        # every ancestor is trained and evaluated anyway, and a quantized network is read against its float one
        self.shown = [recipe for _, recipe in sorted((asked | ancestors).items())]
        self.parents = {recipe.parent.path for recipe in self.shown if recipe.parent}

    @cached_property
    def recipes(self) -> list[str]:
        """The recipes of the tables: the cells and all that they descend from."""
        return [recipe.path for recipe in self.shown]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of every stage in the recipes, by the stage's name."""
        stages = {stage.name: stage.kind.name for recipe in self.shown for stage in recipe.stages}
        return dict(sorted(stages.items()))

    @cached_property
    def quantized(self) -> list[str]:
        """The recipes of quantized models, retrained ones too."""
        return [recipe.path for recipe in self.shown if recipe.last.kind.gives_codes]

    @cached_property
    def with_layer_errors(self) -> list[str]:
        """The recipes whose last stage quantizes: their metrics have errors of layers."""
        return [recipe.path for recipe in self.shown if recipe.last.kind.quantizes]

    @cached_property
    def measured(self) -> list[str]:
        """The recipes whose folders hold what each layer costs alone, for the stages that ask for it."""
        return sorted({measured_recipe(recipe) for recipe in self.shown if self._needs_measurement(recipe.last)})

    def _needs_measurement(self, stage: Stage) -> bool:
        return stage.kind.quantizes and stage.type.keys.needs_measurement(self.grammar.resolve(stage))

    @cached_property
    def quantized_networks(self) -> list[str]:
        """The float networks that are quantized, as the table's column ``network`` names them."""
        return sorted({recipe.network.path for recipe in self.shown if recipe.last.kind.gives_codes})

    @cached_property
    def sequences(self) -> list[str]:
        """The quantized models, where some of them are trained after a quantization: then orders can be compared."""
        trained_after = [recipe for recipe in self.shown if self._trains_after_quantization(recipe)]
        return self.quantized if trained_after else []

    @staticmethod
    def _trains_after_quantization(recipe: Recipe) -> bool:
        kinds = [stage.kind for stage in recipe.stages]
        quantizes = [kind.quantizes for kind in kinds]
        return True in quantizes and not all(quantizes[quantizes.index(True) :])

    @cached_property
    def epochs(self) -> dict[str, int]:
        """For how many epochs the network of a recipe has been trained: its float network, and since."""
        return {recipe.path: sum(map(self._epochs_of, recipe.stages_of_network)) for recipe in self.shown}

    def _epochs_of(self, stage: Stage) -> int:
        return self.grammar.resolve(stage)["epochs"] if self._trains(stage) else 0

    @cached_property
    def students(self) -> list[str]:
        """The float networks that the figure of comparisons holds against the baseline."""
        floats = [recipe.path for recipe in self.shown if recipe.last.kind.makes_network]
        found = pairs.students(floats)
        return found if len(found) <= MOST_STUDENTS else []

    @cached_property
    def trained(self) -> list[str]:
        """The recipes whose curves are drawn: those with a history.

        Left out are the points of a large grid over DKD's weights that nothing builds on, and many retrained models.
        """
        grid = {point.recipe for point in self.dkd_grid}
        hidden = grid - self.parents if len(grid) > FEW_POINTS else set()
        retrained = {
            recipe.path for recipe in self.shown if recipe.last.kind.trains and not recipe.last.kind.makes_network
        }
        hidden |= retrained if len(retrained) > FEW_RETRAINED else set()
        return [recipe.path for recipe in self.shown if self._trains(recipe.last) and recipe.path not in hidden]

    def _trains(self, stage: Stage) -> bool:
        """Whether the stage trains; a root from outside does not, and its history is empty."""
        return stage.kind.trains and self.grammar.resolve(stage).get("source", "train") == "train"

    @cached_property
    def dkd_grid(self) -> list[DkdPoint]:
        """The largest set of cells that differ in DKD's alpha and beta alone, two points at least, or an empty list."""
        grids: dict[tuple, dict[tuple, DkdPoint]] = {}
        for recipe in self.asked:
            if recipe.last.name == "dkd":
                point, rest = self._dkd_point(recipe)
                grids.setdefault(rest, {}).setdefault((point.alpha, point.beta), point)
        largest = max(grids.values(), key=len, default={})
        return [point for _, point in sorted(largest.items())] if len(largest) > 1 else []

    def _dkd_point(self, recipe: Recipe) -> tuple[DkdPoint, tuple]:
        keys = dict(self.grammar.resolve(recipe.last))
        point = DkdPoint(recipe.path, keys.pop("alpha"), keys.pop("beta"))
        return point, (recipe.parent.path if recipe.parent else "", *sorted(keys.items()))

    @cached_property
    def figures(self) -> list[str]:
        """The names of the figures that have something to show."""
        shows = {
            "accuracy_vs_bits": self.quantized,
            "comparisons": self.students,
            "dkd_curves": self.dkd_grid,
            "dkd_heatmap": self.dkd_grid,
            "layer_errors": self.with_layer_errors,
            "sensitivity": self.measured,
            "sequences": self.sequences,
            "training_curves": self.trained,
        }
        return [figure for figure in FIGURES if shows.get(figure, self.shown)]
