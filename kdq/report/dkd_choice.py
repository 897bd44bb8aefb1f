"""The choice of DKD's alpha and beta: on the validation part alone."""

from statistics import fmean

from kdq.errors import UserError

Point = tuple[float, float]


def by_weights(cells: list[dict]) -> dict[Point, list[dict]]:
    """Metrics of DKD's cells by their (alpha, beta)."""
    found: dict[Point, list[dict]] = {}
    for metrics in cells:
        if not {"alpha", "beta"} <= metrics["keys"].keys():
            raise UserError(f"metrics of {metrics['recipe']!r}: no alpha and beta, expected the keys of dkd")
        found.setdefault((metrics["keys"]["alpha"], metrics["keys"]["beta"]), []).append(metrics)
    return found


def choose(cells: dict[Point, list[dict]]) -> Point:
    """The (alpha, beta) of the highest mean validation accuracy; of equal ones, of the least cross entropy there.

    ``cells`` has for each (alpha, beta) the metrics of its seeds. The test part has no say.
    """

    def merit(point):
        top1, cross_entropy = (
            fmean(metrics["validation"][measure] for metrics in cells[point]) for measure in ("top1", "cross_entropy")
        )
        return top1, -cross_entropy

    return max(sorted(cells), key=merit)
