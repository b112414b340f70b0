"""Log-likelihoods of many candidates from one vLLM: what is asked, and answers put together from what was read."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tuneboard.engines.accounting import Ledger, OpenScore
from tuneboard.engines.protocol import Answer, Work
from tuneboard.engines.tokens import ScoredSequence
from tuneboard.engines.vllm_requests import Part, Probe, Reading, computed_tokens, probes, read
from tuneboard.errors import EngineError

#: Encodes one request; raises ``EngineError`` where it cannot be asked.
Encode = Callable[[Work], list[ScoredSequence]]
#: Puts probes through vLLM; gives each back with vLLM's output, or with the reason why it was refused.
Ask = Callable[[Iterator[Probe]], Iterator[tuple[Probe, Any]]]


@dataclass(slots=True)
class _OpenPart:
    """What has been read of one sequence."""

    owner: int
    missing: int
    logprob: float = 0.0
    greedy: bool = True


class Scoring:
    """Scores one list of works.

    Works are encoded group by group, when the requests before them are under way.

    Args:
        work: Log-likelihood requests, rolling or not.
        shifts: Number of each candidate's shift; those of one shift are asked together.
        encode: Encodes one request.
        warm: Called with the works of a group before they are encoded.
    """

    def __init__(
        self,
        work: Sequence[Work],
        shifts: Mapping[str, int],
        encode: Encode,
        warm: Callable[[Sequence[Work]], None] = lambda work: None,
    ) -> None:
        self.shifts, self._encode, self._warm = shifts, encode, warm
        self._order = sorted(work, key=self._section)
        self._parts: list[Part] = []
        self._open: list[_OpenPart] = []
        self._works: list[Work] = []
        self._scores: list[OpenScore] = []
        self._ledgers: dict[str, tuple[Ledger, dict[int, int]]] = {}
        self._of_part: list[tuple[Ledger, int]] = []
        self._ready: deque[Answer] = deque()  # requests may be encoded in another thread than answers are read
        self._unreadable: list[Probe] = []

    def run(self, ask: Ask) -> Iterator[Answer]:
        """Answer all works, each as soon as its last token is read."""
        yield from self._pass(ask, self._probes())
        while self._unreadable:
            repeated, self._unreadable = self._unreadable, []
            yield from self._pass(ask, iter(repeated))

    def _section(self, item: Work) -> tuple[int, int]:
        return self.shifts[item.candidate], item.group

    def _pass(self, ask: Ask, wanted: Iterator[Probe]) -> Iterator[Answer]:
        for probe, output in ask(wanted):
            yield from self._drain()
            if isinstance(output, str):
                yield from self._fail(probe, output)
                continue
            self._of_part[probe.reads[0].part][0].add(computed_tokens(probe, output))
            readings, rest = read(probe, output)
            for reading in readings:
                yield from self._take(reading)
            if rest is not None and probe.fresh:
                yield from self._fail(rest, "vLLM gave no log-probability of a token that was asked for")
            elif rest is not None:
                self._unreadable.append(rest)
        yield from self._drain()

    def _drain(self) -> Iterator[Answer]:
        while self._ready:
            yield self._ready.popleft()

    def _probes(self) -> Iterator[Probe]:
        for _, section in groupby(self._order, key=self._section):
            first = len(self._parts)
            self._add(list(section))
            yield from probes(self._parts, self.shifts, range(first, len(self._parts)))

    def _add(self, work: Sequence[Work]) -> None:
        """Encode the works of one section and open their accounts."""
        self._warm(work)
        by_candidate: defaultdict[str, list[ScoredSequence]] = defaultdict(list)
        owners: list[tuple[str, int]] = []
        for item in work:
            try:
                sequences = self._encode(item)
            except EngineError as error:
                self._ready.append(Answer(item.id, None, str(error)))
                continue
            if not sequences:
                self._ready.append(Answer(item.id, 0.0))
                continue
            owner = len(self._works)
            self._works.append(item)
            self._scores.append(OpenScore(len(sequences), sum(one.truncated for one in sequences)))
            for one in sequences:
                self._parts.append(Part(item.candidate, one, item.group))
                self._open.append(_OpenPart(owner, len(one.targets)))
                owners.append((item.candidate, len(by_candidate[item.candidate])))
                by_candidate[item.candidate].append(one)
        ledgers = {candidate: Ledger(sequences) for candidate, sequences in by_candidate.items()}
        self._of_part += [(ledgers[candidate], index) for candidate, index in owners]

    def _take(self, reading: Reading) -> Iterator[Answer]:
        part = self._open[reading.part]
        part.missing -= reading.count
        part.logprob += reading.logprob
        part.greedy &= reading.greedy
        if part.missing == 0:
            ledger, index = self._of_part[reading.part]
            score, item = self._scores[part.owner], self._works[part.owner]
            if score.add(part.logprob, part.greedy, ledger.take(index)):
                yield score.answer(item)

    def _fail(self, probe: Probe, reason: str) -> Iterator[Answer]:
        for part in {one.part for one in probe.reads}:
            owner = self._open[part].owner
            if self._scores[owner].missing > 0:
                # A work that failed in one part is answered once; what is read of its other parts changes nothing.
                self._scores[owner].missing = -1
                yield Answer(self._works[owner].id, None, reason)
