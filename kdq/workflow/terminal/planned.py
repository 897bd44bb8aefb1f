"""The jobs of a run as the terminal shows them: plain values, so that nothing here depends on Snakemake."""

from dataclasses import dataclass
from functools import cached_property

from kdq.errors import UserError
from kdq.recipe.path import Cell, name_of, stages
from kdq.study.products import METRICS, MODEL, name_in_cell

NEW = ""  # the change of files that were not there


@dataclass(frozen=True)
class Cause:
    """Why a job runs: ``subject``, a stage or the name of a file, the ``change``, and what several subjects are."""

    subject: str
    change: str
    role: str = ""


@dataclass(frozen=True)
class PlannedJob:
    """A job that is to run.

    ``needs`` are the numbers of the jobs before it, ``share`` the part of the machine that it takes, ``seconds`` the
    time that its network and epochs cost on an assumed machine. ``causes`` are why it runs, none if only since a job
    before it does.
    """

    number: int
    rule: str
    outputs: tuple[str, ...] = ()
    needs: frozenset[int] = frozenset()
    share: float = 1.0
    seconds: float = 0.0
    log: str = ""
    causes: tuple[Cause, ...] = ()

    @cached_property
    def cell(self) -> Cell | None:
        """The cell of its first file, None for data, tables and figures."""
        try:
            return Cell.of(self.outputs[0])
        except (UserError, IndexError):
            return None

    @property
    def kind(self) -> str:
        """Jobs of a kind take alike: the rule, and the method of the last stage."""
        return f"{self.rule} {name_of(stages(self.cell.recipe)[-1])}" if self.cell else self.rule

    @property
    def names(self) -> set[str]:
        """The names of its files."""
        return {name_in_cell(path) for path in self.outputs} if self.cell else set()

    @property
    def makes_model(self) -> bool:
        return MODEL in self.names

    @property
    def metrics(self) -> str:
        """The path of the file of metrics that it writes, "" if it evaluates nothing."""
        return self.cell.path(METRICS) if METRICS in self.names else ""
