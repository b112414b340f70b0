"""pass@k: how likely at least one of k answers is right, by the unbiased estimate from n of them.

Right is an answer that equals a reference. Tasks whose answers are programs run them first: see ``tasks/humaneval``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from tuneboard import stats
from tuneboard.metrics.exact_match import exact_match
from tuneboard.metrics.family import Metric

_NAME = re.compile(r"pass@([1-9]\d{0,3})")


def k_of(name: str) -> int | None:
    """Return the k of ``pass@k``; None for another name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def pass_metric(name: str) -> Metric | None:
    """Return the metric of a name such as ``pass@5``; None for another name."""
    k = k_of(name)
    return None if k is None else Metric(name, True, exact_match, combine=partial(_estimate, k=k))


def _estimate(scores: Sequence[float], k: int) -> float:
    return stats.pass_at_k(len(scores), round(sum(scores)), k)
