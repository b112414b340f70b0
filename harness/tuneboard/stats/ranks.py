"""Places among many scores of which each has an interval."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def rank_ranges(intervals: Sequence[tuple[float, float]], higher_is_better: bool = True) -> list[tuple[int, int]]:
    """Return the best and the worst place that each score can have; those that cannot be told apart share places.

    A place is lost only to scores whose whole interval is better, and gained only over those whose whole interval is
    worse. Overlapping intervals say less than a paired test of the same documents does, so the ranges are rather wide.

    Args:
        intervals: Low and high end of each score's interval; both the score itself where nothing is known of it.
        higher_is_better: Direction of the metric.

    Returns:
        Places from 1 to the number of scores.
    """
    ends = [(low, high) if higher_is_better else (-high, -low) for low, high in intervals]
    lows, highs = sorted(low for low, _ in ends), sorted(high for _, high in ends)
    return [(1 + len(ends) - bisect_right(lows, high), len(ends) - bisect_left(highs, low)) for low, high in ends]
