"""Asks for samples batch by batch, and stops once every rule is decided.

The caller evaluates what ``next_batch`` asks and feeds the scores back; nothing here knows of models. Everything
follows from the seed and the scores, so that an interrupted gate that is fed the same scores again goes the same way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneboard import stats
from tuneboard.compare import Comparison
from tuneboard.gates.costs import MEASURES
from tuneboard.gates.judging import Decided, Key, corrected, judge, margin_of
from tuneboard.gates.records import Policy, Stop, Verdict
from tuneboard.gates.selecting import select
from tuneboard.gates.streams import Fed, Item, Stream, with_fed
from tuneboard.gates.tracking import Tracker
from tuneboard.records import Cost

__all__ = ["Batch", "Item", "SequentialGate", "Stream"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What to evaluate next, of the base and of the candidate."""

    stream: Stream
    items: tuple[Item, ...]
    """At most 32."""


class SequentialGate:
    """One run of a policy over samples in seeded random order.

    Args:
        policy: Its rules on scores decide when to stop; the others are judged at the end.
        streams: Tasks and groups that can be asked, one entry per metric. Those that no rule is on are not asked.
        seed: Of the order; None takes the policy's. A single task is asked in the order in which a suite with that
            ``sample_seed`` draws from it.
    """

    def __init__(self, policy: Policy, streams: Sequence[Stream], seed: int | None = None) -> None:
        plan = policy.evaluate
        self.policy = policy
        self.seed = seed if seed is not None else plan.seed if plan else 1234
        self.batch = plan.batch if plan else stats.LARGEST_BATCH
        self._trackers = self._make_trackers(streams)
        self._fed = list(dict.fromkeys(tracker.fed for tracker in self._trackers))
        self._pending: tuple[Fed, Batch] | None = None

    @property
    def decided(self) -> bool:
        """Whether nothing is left to ask."""
        return self._pending is None and not any(self._is_open(fed) for fed in self._fed)

    @property
    def stops(self) -> Mapping[Key, Stop]:
        """Where each rule stands: by its place in the policy, task, metric and filter."""
        return {tracker.key: tracker.stop() for tracker in self._trackers}

    def next_batch(self) -> Batch | None:
        """Return what to evaluate next, the same until it is fed; None once every rule is decided.

        Streams take turns, so that a regression anywhere is seen early.
        """
        if self._pending is None:
            left = [fed for fed in self._fed if self._is_open(fed)]
            if not left:
                return None
            fed = min(left, key=lambda one: one.seen)
            self._pending = fed, Batch(fed.stream, fed.upcoming(self.batch))
        return self._pending[1]

    def feed(self, batch: Batch, base: Sequence[float | None], candidate: Sequence[float | None]) -> None:
        """Take in the scores of a batch.

        Args:
            batch: As ``next_batch`` gave it.
            base: One score per item, None where the sample failed.
            candidate: The same of the candidate.

        Raises:
            ValueError: This is not the batch that was asked for, or a score is missing.
        """
        if self._pending is None or batch != self._pending[1]:
            raise ValueError("scores of a batch that was not asked for; feed the one that next_batch gave")
        if not len(batch.items) == len(base) == len(candidate):
            raise ValueError(f"{len(base)} and {len(candidate)} scores for {len(batch.items)} samples; give one each")
        fed, self._pending = self._pending[0], None
        fed.add(base, candidate)
        for tracker in self._trackers:
            if tracker.fed is fed and not tracker.decided:
                tracker.look()
        self._settle()

    def judge(self, comparison: Comparison | None = None, costs: Mapping[str, Cost] | None = None) -> Verdict:
        """Return the verdict.

        Args:
            comparison: Of what was asked, for rules on scores that cannot be watched, such as BLEU, and to say whether
                the candidate was applied. None compares what was fed.
            costs: As for ``gates.judge``.

        Raises:
            ValueError: Not every rule is decided.
        """
        if not self.decided:
            raise ValueError("the gate is not decided; feed the next batch")
        whole = with_fed(comparison, self._fed, self.policy)
        known: dict[Key, Decided] = {tracker.key: tracker.decision() for tracker in self._trackers if not tracker.fixed}
        return judge(whole, self.policy, costs, known)

    def _make_trackers(self, streams: Sequence[Stream]) -> list[Tracker]:
        fed: dict[tuple[str, str, str], Fed] = {}
        made = []
        for place, rule in enumerate(self.policy.rules):
            if rule.rule in MEASURES:
                continue
            for chosen in select(rule, streams).values():
                for stream in chosen:
                    name = (stream.task, stream.metric, stream.filter)
                    if name not in fed:
                        fed[name] = Fed(stream, self._order(stream))
                    margin = margin_of(rule, stream.task, self.policy, stream.default_margin)
                    schedule = stats.Schedule(len(stream.items), self.policy.alpha, self.batch)
                    made.append(Tracker((place, *name), rule, margin, schedule, fed[name]))
        return made

    def _order(self, stream: Stream) -> tuple[Item, ...]:
        items = list(stream.items)
        random.Random(f"{self.seed}:{stream.task}").shuffle(items)
        return tuple(items)

    def _is_open(self, fed: Fed) -> bool:
        if fed.seen == len(fed.order):
            return False
        return any(tracker.fed is fed and not tracker.decided for tracker in self._trackers)

    def _settle(self) -> None:
        """Let rules fail whose evidence holds for the whole family; one failure makes the next one easier (Holm)."""
        p_values = corrected([tracker.p for tracker in self._trackers], self.policy.correction)
        for tracker, p in zip(self._trackers, p_values, strict=True):
            tracker.settle(p <= self.policy.alpha)
