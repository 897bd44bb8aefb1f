"""Contents of the report, decided from a study's recipes alone, so that a figure with nothing to show is no target."""

from functools import cached_property

from kdq.deploy import exportable
from kdq.recipe.grammar import Recipe, Stage
from kdq.report import pairs
from kdq.report.figures import FIGURES
from kdq.report.techniques import technique

MOST_STUDENTS = 60  # rows of the figure of comparisons; with more, only the table has them
FEW_RETRAINED = 8  # each bit-width has its own retrained models; with more, their curves are left out
FEW_POINTS = 3  # a larger grid over alpha and beta has a figure of its own and no training curves


class Contents:
    """The recipes of a study's tables and figures by their paths, the same for every data set."""

    def __init__(self, study):
        self.grammar, self.latency = study.grammar, study.config.latency
        asked = {recipe.path: recipe for recipe in study.recipes}
        ancestors = {recipe.path: recipe for cell in study.recipes for recipe in cell.ancestors}
        self.asked = list(asked.values())
        # ancestors are trained and evaluated anyway, and a quantized network is compared with its float one
        self.shown = [recipe for _, recipe in sorted((asked | ancestors).items())]
        self.parents = {recipe.parent.path for recipe in self.shown if recipe.parent}
        stages = {(stage.name, stage.kind.name) for recipe in self.shown for stage in recipe.stages}
        self.kinds = dict(sorted(stages))  # of every stage, by its name
        self.recipes = [recipe.path for recipe in self.shown]  # of the tables: the cells and their ancestors
        quantized = [recipe for recipe in self.shown if recipe.has_codes]  # retrained ones included
        self.quantized = [recipe.path for recipe in quantized]
        # their metrics have errors of layers
        self.with_layer_errors = [recipe.path for recipe in quantized if recipe.last.kind.quantizes]
        # as in the table's column ``network``
        self.quantized_networks = sorted({recipe.network.path for recipe in quantized})

    @cached_property
    def measured(self) -> list[str]:
        """Return the recipes whose folders hold a table of sensitivities, for the stages that need one."""
        return sorted({recipe.measured for recipe in self.shown if self._needs_measurement(recipe.last)})

    def _needs_measurement(self, stage: Stage) -> bool:
        return stage.kind.quantizes and stage.type.keys.needs_measurement(self.grammar.resolve(stage))

    @cached_property
    def timed(self) -> list[str]:
        """Return the recipes whose ONNX files are timed: all that have one, if the study has ``latency: true``."""
        has_onnx = [recipe.path for recipe in self.shown if not exportable.refusal(recipe, self.grammar)]
        return has_onnx if self.latency else []

    @cached_property
    def sequences(self) -> list[str]:
        """Return the quantized models if some were trained after a quantization, so that orders can be compared."""
        return self.quantized if any(map(self._trains_after_quantization, self.shown)) else []

    @staticmethod
    def _trains_after_quantization(recipe: Recipe) -> bool:
        quantizes = [stage.kind.quantizes for stage in recipe.stages]
        return True in quantizes and not all(quantizes[quantizes.index(True) :])

    @cached_property
    def techniques(self) -> dict[str, dict[str, str]]:
        """Return what was done to the network of each cell, in words, if some were pruned: orders are compared then."""
        pruned = any(stage.kind.prunes for recipe in self.shown for stage in recipe.stages)
        return {recipe.path: technique(recipe, self.grammar) for recipe in self.asked} if pruned else {}

    @cached_property
    def epochs(self) -> dict[str, int]:
        """Return for every recipe how many epochs its network was trained, as a float network and since."""
        return {recipe.path: sum(map(self._epochs_of, recipe.stages_of_network)) for recipe in self.shown}

    def _epochs_of(self, stage: Stage) -> int:
        return self.grammar.resolve(stage)["epochs"] if self._trains(stage) else 0

    @cached_property
    def students(self) -> list[str]:
        """Return the float networks that the figure of comparisons compares with the baseline."""
        floats = [recipe.path for recipe in self.shown if recipe.last.kind.makes_network]
        students = pairs.students(floats)
        return students if len(students) <= MOST_STUDENTS else []

    @cached_property
    def trained(self) -> list[str]:
        """Return the recipes whose training curves are drawn: those with a history.

        Points of a large grid over DKD's weights that have no descendants are left out, and so are many retrained
        models.
        """
        hidden = self.dkd_grid.keys() - self.parents if len(self.dkd_grid) > FEW_POINTS else set()
        trained = [recipe for recipe in self.shown if self._trains(recipe.last)]
        retrained = {recipe.path for recipe in trained if not recipe.last.kind.makes_network}
        hidden |= retrained if len(retrained) > FEW_RETRAINED else set()
        return [recipe.path for recipe in trained if recipe.path not in hidden]

    @property
    def with_history(self) -> list[str]:
        """Return the recipes whose last stage trains here."""
        return [recipe.path for recipe in self.shown if self._trains(recipe.last)]

    def _trains(self, stage: Stage) -> bool:
        """Return whether the stage trains; a root from outside and pruning alone do not: their history is empty."""
        keys = self.grammar.resolve(stage)
        return stage.kind.trains and keys.get("source", "train") == "train" and keys["epochs"] > 0

    @cached_property
    def dkd_grid(self) -> dict[str, list[float]]:
        """Return the largest set of cells that differ in DKD's alpha and beta alone: these two by recipe, in order.

        Empty if there are fewer than two points.
        """
        grids: dict[tuple, dict[tuple, str]] = {}
        for recipe in self.asked:
            if recipe.last.name == "dkd":
                keys = dict(self.grammar.resolve(recipe.last))
                point = keys.pop("alpha"), keys.pop("beta")
                rest = recipe.parent.path if recipe.parent else "", *sorted(keys.items())
                grids.setdefault(rest, {}).setdefault(point, recipe.path)
        largest = max(grids.values(), key=len, default={})
        return {path: list(point) for point, path in sorted(largest.items())} if len(largest) > 1 else {}

    @cached_property
    def figures(self) -> list[str]:
        """Return the names of the figures that have something to show."""
        return [name for name, figure in FIGURES.items() if getattr(self, figure.shows)]
