"""The Pareto front: what no other point beats in both size and accuracy."""


def front(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the ``(cost, value)`` points that no point dominates, cost ascending.

    A point dominates another where it costs no more, is worth no less, and differs. Of equal points the first is kept.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    kept, best = [], float("-inf")
    for index in order:
        if points[index][1] > best:
            kept.append(index)
            best = points[index][1]
    return kept
