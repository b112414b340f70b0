from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuneboard.stats import rank_ranges


def test_disjoint_intervals_have_places_of_their_own() -> None:
    assert rank_ranges([(0.1, 0.2), (0.5, 0.6), (0.3, 0.4)]) == [(3, 3), (1, 1), (2, 2)]
    assert rank_ranges([(0.1, 0.2), (0.5, 0.6), (0.3, 0.4)], higher_is_better=False) == [(1, 1), (3, 3), (2, 2)]


def test_overlapping_intervals_share_places() -> None:
    assert rank_ranges([(0.1, 0.3), (0.2, 0.5), (0.4, 0.6)]) == [(2, 3), (1, 3), (1, 2)]
    assert rank_ranges([(0.5, 0.5), (0.5, 0.5)]) == [(1, 2), (1, 2)]
    assert rank_ranges([]) == []


ENDS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(ENDS, max_size=30), st.booleans())
def test_places_are_those_of_counting_who_is_surely_better(intervals: list[tuple[float, float]], higher: bool) -> None:
    def above(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] > other[1] if higher else one[1] < other[0]

    expected = [
        (
            1 + sum(above(other, one) for other in intervals),
            len(intervals) - sum(above(one, other) for other in intervals),
        )
        for one in intervals
    ]
    assert rank_ranges(intervals, higher) == expected
