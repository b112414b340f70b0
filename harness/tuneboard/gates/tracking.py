"""One rule on one stream: what is known of it, and whether it is decided."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from tuneboard import stats
from tuneboard.gates.judging import Decided, Key
from tuneboard.gates.records import Outcome, Rule, Stop
from tuneboard.gates.streams import Fed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


class Tracker:
    """Follows a rule while its stream is fed.

    Args:
        key: Names the rule and the stream.
        rule: On scores.
        margin: In force; None where the metric has none, which is then judged on all samples.
        schedule: When to look.
        fed: The stream.
    """

    def __init__(self, key: Key, rule: Rule, margin: float | None, schedule: stats.Schedule, fed: Fed) -> None:
        self.key, self.rule, self.margin, self.schedule, self.fed = key, rule, margin, schedule, fed
        self.outcome: Outcome = "inconclusive"
        self.log_e = 0.0
        """Largest so far."""
        self.p = 1.0
        """Of failing, at any time; not corrected."""
        self._chance = 1.0
        self._n = 0
        self._method = "all samples"
        self._bound: float | None = None

    @property
    def decided(self) -> bool:
        """Whether more samples of this stream would change nothing."""
        return self.outcome != "inconclusive"

    @property
    def _at(self) -> int:
        """Place of the batch that was just completed."""
        return math.ceil(self.fed.seen / self.schedule.batch) - 1

    @property
    def _last(self) -> bool:
        return self.fed.seen == self.schedule.n

    @property
    def fixed(self) -> bool:
        """Whether the rule is judged on all samples, as if there had been no looks."""
        if self.rule.rule == "at_least":
            return self.fed.kind == "fixed" or not 0 < (self.rule.value or 0) < 1
        return self.fed.kind == "fixed" or self.margin is None or not 0 < self.margin < 1

    def look(self) -> None:
        """Weigh what the stream has brought."""
        self._n = self.fed.seen
        if self.fixed:
            # Until all samples are there, the rule takes no part in the family's evidence.
            self.p, self.log_e, self._chance = 1.0, 0.0, 1.0
            return
        if self.fed.kind is None:
            return
        evidence, last_p = self._evidence()
        self.log_e = max(self.log_e, float(evidence.log_e))
        self.p = stats.p_of_failing(self.log_e, last_p)
        self._chance = float(evidence.chance)
        if evidence.passes:
            self.outcome, self._method = "pass", self._passing()
        if evidence.passes or self._last:
            self._bound = self._decisive_bound()

    def settle(self, significant: bool) -> None:
        """Fail if the corrected evidence suffices and passing is no longer likely.

        Args:
            significant: Whether the p-value, corrected over all rules, is at most alpha.
        """
        if significant and not self.decided and self._n and (self._last or self._chance < stats.LIKELY):
            self.outcome = "fail"
            self._method = "bets" if self.fed.kind == "bounded" else f"e-value {math.exp(min(self.log_e, 700)):,.3g}"
            if self._last:
                self._method = "all samples"

    def stop(self) -> Stop:
        """Return where the rule stands."""
        return Stop(self._n, self.schedule.n, self.decided and self._n < self.schedule.n, self._method)

    def decision(self) -> Decided:
        """Return what the final verdict needs."""
        return Decided(self.outcome == "pass", self.p, self._bound, self.stop(), self.outcome == "fail")

    def _evidence(self) -> tuple[stats.Evidence, Any]:
        if self.rule.rule == "at_least":
            return self._level_evidence()
        aim, margin = self._aim(), self.margin
        assert margin is not None
        if self.fed.kind == "binary":
            counts = self.fed.counts()
            evidence = stats.watch_flips(aim, margin, self.schedule, self._at, counts)
            return evidence, stats.last_p_of_flips(aim, margin, counts) if self._last and counts[2] else 1.0
        gains = self.fed.gains()
        evidence = stats.watch_scores(aim, margin, self.schedule, self._at, gains)
        return evidence, stats.last_p_of_scores(aim, margin, gains) if self._last else 1.0

    def _level_evidence(self) -> tuple[stats.Evidence, Any]:
        value, scores = self.rule.value or 0.0, self._oriented()
        if not self.fed.stream.higher_is_better:
            value = 1 - value
        evidence = stats.watch_level(value, self.schedule, self._at, scores)
        return evidence, stats.last_p_of_level(value, scores) if self._last else 1.0

    def _oriented(self) -> Floats:
        """Return the candidate's own scores, turned so that more is better."""
        scores = self.fed.own()
        return scores if self.fed.stream.higher_is_better else 1 - scores

    def _aim(self) -> stats.Aim:
        rule = self.rule.rule
        assert rule == "not_regress" or rule == "improve" or rule == "equivalent"
        return rule

    def _passing(self) -> str:
        if self._last:
            return "all samples"
        if self.fed.kind == "bounded" or self.rule.rule == "at_least":
            return "bets"
        looks = list(self.schedule.bounds)
        return f"look {looks.index(self._at) + 1} of {len(looks)}"

    def _decisive_bound(self) -> float:
        """Return the bound that has just decided about passing, at its own level."""
        sign = 1 if self.fed.stream.higher_is_better else -1
        if self.rule.rule == "at_least":
            low, _ = stats.bounds_of_scores(self.schedule, self._at, self._oriented())
            return low if sign > 0 else 1 - low
        if self.fed.kind == "binary":
            low, high = stats.bounds_of_flips(self.schedule, self._at, self.fed.counts())
        else:
            low, high = stats.bounds_of_gains(self.schedule, self._at, self.fed.gains())
        return sign * (max(low, high, key=abs) if self.rule.rule == "equivalent" else low)
