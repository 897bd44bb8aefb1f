"""The choice of DKD's alpha and beta, on the validation part alone."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ["validation_top1", "validation_cross_entropy"]


def choose(grid: pd.DataFrame) -> tuple[float, float]:
    """Return the (alpha, beta) of the highest mean validation accuracy, among equals of the least cross entropy there.

    ``grid`` has a row per cell of one data set, with the columns ``alpha``, ``beta`` and ``MEASURES``.
    """
    # fmean is exact: the order of the seeds must not break a tie
    means = grid.groupby(["alpha", "beta"], as_index=False)[MEASURES].agg(fmean)
    best = means.sort_values([*MEASURES, "alpha", "beta"], ascending=[False, True, True, True]).iloc[0]
    return float(best.alpha), float(best.beta)
