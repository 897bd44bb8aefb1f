"""The Pareto front of size and accuracy."""


def front(points: list[tuple[float, float]], tolerance: float = 0.0) -> list[int]:
    """Return the indices of the ``(cost, value)`` points that no point dominates, cost ascending.

    A point dominates a second one if its value is greater at no more than ``1 + tolerance`` times the cost, or equal
    at less cost. Among equal points the first is kept.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    kept, best = [], float("-inf")
    for index in order:
        cost, value = points[index]
        if value > best:
            kept = [before for before in kept if points[before][0] * (1 + tolerance) < cost]
            kept.append(index)
            best = value
    return kept
