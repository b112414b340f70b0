"""Many tests at once: p-values adjusted for the size of their family."""

from __future__ import annotations

from collections.abc import Sequence

# ``statsmodels.stats.multitest.multipletests`` gives the same numbers, and the tests hold these to it; but importing it
# takes a second, and each call 0.1 s, more than a whole comparison may.


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method, which bounds the chance of any false alarm.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: Of one family, each 0 to 1, in any order.

    Returns:
        Adjusted p-values in the same order; rejecting those at most alpha holds the family at alpha.

    Raises:
        ValueError: A p-value is out of range.
    """
    order = _ascending(p_values)
    adjusted, largest = [0.0] * len(order), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Benjamini's and Hochberg's step-up method, which bounds the share of false alarms.

    Source: Benjamini and Hochberg 1995, "Controlling the false discovery rate".

    Args:
        p_values: Of one family, each 0 to 1, in any order.

    Returns:
        Adjusted p-values in the same order; among those at most alpha, a share of alpha is expected to be false.

    Raises:
        ValueError: A p-value is out of range.
    """
    order = _ascending(p_values)
    adjusted, smallest = [0.0] * len(order), 1.0
    for rank in range(len(order), 0, -1):
        place = order[rank - 1]
        smallest = min(smallest, p_values[place] * len(order) / rank)
        adjusted[place] = smallest
    return adjusted


def _ascending(p_values: Sequence[float]) -> list[int]:
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("a p-value is not between 0 and 1")
    return sorted(range(len(p_values)), key=lambda place: p_values[place])
