"""Scores of labels: accuracy, macro F1 and Matthews' correlation, for any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneboard import stats
from tuneboard.metrics.family import CorpusScore, Metric


def label_row(piece: Sequence[Any]) -> list[float]:
    """Return what is summed of one sample: of each label whether it was hit, said and meant; three blocks in a row.

    Args:
        piece: The place of the right label, that of the one that was said, and how many labels there are.
    """
    gold, said, count = (int(one) for one in piece)
    row = [0.0] * (3 * count)
    row[gold] = float(gold == said)
    row[count + said] = row[2 * count + gold] = 1.0
    return row


def _piece(gold: int, said: int, count: int) -> list[int]:
    return [gold, said, count]


METRICS = (
    Metric("acc", True, lambda gold, said, count: float(gold == said), of="labels"),
    Metric("f1_macro", True, _piece, CorpusScore(stats.macro_f1, label_row), of="labels"),
    Metric("mcc", True, _piece, CorpusScore(stats.matthews, label_row), of="labels"),
)
