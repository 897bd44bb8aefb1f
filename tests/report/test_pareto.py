from hypothesis import given
from hypothesis import strategies as st

from kdq.report.pareto import front

NUMBERS = st.integers(0, 12)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=25)


def dominates(one, other):
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(POINTS)
def test_no_point_of_the_front_is_dominated_and_every_other_one_is_dominated_or_a_copy(points):
    kept = front(points)
    for index, point in enumerate(points):
        dominated = any(dominates(other, point) for other in points)
        copy = any(points[other] == point for other in kept if other != index)
        assert (index in kept) == (not dominated and not copy)


@given(POINTS)
def test_the_front_ascends_in_both(points):
    kept = [points[index] for index in front(points)]
    assert all(before[0] < after[0] and before[1] < after[1] for before, after in zip(kept, kept[1:], strict=False))


def test_by_hand():
    assert front([(3, 5), (1, 2), (2, 2), (2, 4), (4, 5)]) == [1, 3, 0]


def test_a_cost_that_is_hardly_more_is_the_same_cost():
    points = [(100, 5), (101, 6), (102, 7), (110, 8)]
    assert front(points) == [0, 1, 2, 3]
    assert front(points, tolerance=0.015) == [2, 3]


@given(POINTS)
def test_a_tolerance_leaves_a_part_of_the_front(points):
    kept = front(points, 0.2)
    assert set(kept) <= set(front(points))
    for index in set(front(points)) - set(kept):
        cost, value = points[index]
        assert any(other[0] <= cost * 1.2 and other[1] > value for other in points)
