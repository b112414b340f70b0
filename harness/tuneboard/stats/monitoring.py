"""Watching one rule while scores come in: may it stop, and with what?

A ``Schedule`` says when to look, ``watch_flips`` gives the evidence from 0/1 scores after a batch (``stats.wagers``
that from bounded ones), and ``p_of_failing`` makes p-values of it that hold at any time. Counts may be arrays, one
entry per simulated stream: ``run_flips`` runs thousands at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tuneboard.stats.binary import mcnemar, tango_interval, tango_statistic, tango_test
from tuneboard.stats.sequential import chance_to_pass, log_e_value, spending_bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

#: What is asked of the difference: that it is above -margin, above 0, or within the margin.
Aim: TypeAlias = Literal["not_regress", "improve", "equivalent"]

#: Most samples between two looks.
LARGEST_BATCH = 32
#: Most looks at which a rule may pass.
LOOKS = 10
#: Of alpha, what failing early may use up; an exact test of the full sample has the rest. E at alpha and then the test
#: at alpha would give 6 to 8 % false alarms.
EARLY_FAIL = 0.8
#: Chance of passing in the end above which a rule does not fail early: pass precedes fail.
LIKELY = 0.05


@dataclass(frozen=True)
class Schedule:
    """When to look at a stream of samples."""

    n: int
    """Samples of the full evaluation, at least 1."""
    alpha: float = 0.05
    """One-sided level."""
    batch: int = LARGEST_BATCH
    looks: int = LOOKS

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Samples seen after each batch."""
        return (*range(self.batch, self.n, self.batch), self.n)

    @cached_property
    def bounds(self) -> Mapping[int, float]:
        """Batch to what the statistic of passing must reach after it; only batches with a look.

        A look falls after the first batch that completes each tenth of the sample.
        """
        import numpy as np

        targets = [self.n * part / self.looks for part in range(1, self.looks + 1)]
        at = sorted({int(np.searchsorted(self.ends, target - 1e-9)) for target in targets})
        fractions = tuple(self.ends[place] / self.n for place in at)
        return dict(zip(at, spending_bounds(fractions, self.alpha), strict=True))

    @property
    def last(self) -> int:
        """Place of the last batch."""
        return len(self.ends) - 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known after a batch; arrays where streams are simulated."""

    passes: Any
    """Whether the rule may stop with a pass."""
    log_e: Any
    """Logarithm of the e-value against the rule's being kept."""
    chance: Any
    """Predictive probability that it passes at the end."""


def watch_flips(aim: Aim, margin: float, schedule: Schedule, at: int, counts: tuple[Any, Any, Any]) -> Evidence:
    """Return the evidence from 0/1 scores.

    Args:
        aim: What is asked.
        margin: Above 0; the smallest gain that matters for ``improve``.
        schedule: When to look.
        at: The batch that was just completed, from 0.
        counts: Wins, losses and pairs so far.
    """
    import numpy as np

    wins, losses, pairs = (np.asarray(one, dtype=float) for one in counts)
    seen = np.maximum(pairs, 1)
    drift = (wins - losses) / (seen + 2)
    variance = (wins + losses + 1) / (seen + 2) - drift**2
    final = schedule.bounds[schedule.last] * np.sqrt(variance / schedule.n)
    expected = (wins - losses) / seen

    def chance(least: Any) -> Any:
        return chance_to_pass(expected, variance, seen, schedule.n, least)

    loss = log_e_value(losses, wins)
    bound = schedule.bounds.get(at, math.inf)
    floor = 0.0 if aim == "improve" else -margin
    passes = (tango_statistic(wins, losses, seen, floor) >= bound) & (pairs > 0) if at in schedule.bounds else pairs < 0
    likely = chance(floor + final)
    if aim == "equivalent":
        loss = np.logaddexp(loss, log_e_value(wins, losses)) - math.log(2)
        if at in schedule.bounds:
            passes = passes & (-np.asarray(tango_statistic(wins, losses, seen, margin)) >= bound)
        likely = np.maximum(likely - chance(margin - final), 0.0)
    return Evidence(passes, loss, likely)


def bounds_of_flips(schedule: Schedule, at: int, counts: tuple[int, int, int]) -> tuple[float, float]:
    """Return both one-sided bounds of the gain at the level of a look; ``watch_flips`` passes where these say so.

    Args:
        schedule: When to look.
        at: A batch with a look.
        counts: Wins, losses and pairs so far.
    """
    # From 8 standard errors on, a normal distribution has nothing left to tell bounds apart.
    confidence = 2 * NormalDist().cdf(min(schedule.bounds[at], 8.0)) - 1
    return tango_interval(counts[0], counts[1], max(counts[2], 1), confidence)


def last_p_of_flips(aim: Aim, margin: float, counts: tuple[Any, Any, Any]) -> Any:
    """Return the p-value of failing from all samples: exact McNemar; the score test of a gain too small to matter."""
    wins, losses, pairs = counts
    if aim == "improve":
        return tango_test(wins, losses, pairs, margin, "less")
    return mcnemar(wins, losses, "less" if aim == "not_regress" else "two-sided")


def p_of_failing(log_e: Any, last_p: Any = 1.0) -> Any:
    """Return one p-value from the largest e-value so far and, at the end, from the test of the full sample.

    P(1/E <= 0.8 a) + P(p <= 0.2 a) is at most a, so that min(1/(0.8 E), p/0.2) is a p-value at any time. With several
    rules, Holm's method takes these.

    Args:
        log_e: Logarithm of the largest e-value so far.
        last_p: 1 before the end.
    """
    import numpy as np

    early = np.exp(-np.maximum(log_e, 0.0)) / EARLY_FAIL
    out = np.minimum(1.0, np.minimum(early, np.asarray(last_p) / (1 - EARLY_FAIL)))
    return float(out) if out.ndim == 0 else out


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """How simulated streams ended."""

    passed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    seen: Floats
    """Samples when it was decided, or all."""


def run_flips(aim: Aim, margin: float, schedule: Schedule, wins: Floats, losses: Floats) -> Runs:
    """Run one rule on many streams of 0/1 scores at once, as ``gates.SequentialGate`` runs it on one.

    Args:
        aim: What is asked.
        margin: Above 0.
        schedule: When to look.
        wins: (streams, batches) running count of samples that only the candidate has right.
        losses: (streams, batches) the same of the base.
    """
    import numpy as np

    streams = len(wins)
    passed, failed = np.zeros(streams, bool), np.zeros(streams, bool)
    seen, largest = np.full(streams, float(schedule.n)), np.zeros(streams)
    left = np.arange(streams)
    for at, end in enumerate(schedule.ends):
        counts = (wins[left, at], losses[left, at], np.full(len(left), end))
        evidence = watch_flips(aim, margin, schedule, at, counts)
        largest[left] = np.maximum(largest[left], evidence.log_e)
        last = at == schedule.last
        p = p_of_failing(largest[left], last_p_of_flips(aim, margin, counts) if last else 1.0)
        stops = ~evidence.passes & (p <= schedule.alpha) & (last | (np.asarray(evidence.chance) < LIKELY))
        passed[left], failed[left] = evidence.passes, stops
        done = evidence.passes | stops
        seen[left[done]] = end
        left = left[~done]
        if not len(left):
            break
    return Runs(passed, failed, seen)
