"""How far an engine is from transformers, and from itself: the same requests asked of both, and asked twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from typing import Any

from tuneboard.engines.protocol import Engine, EngineInfo, Notice, Work
from tuneboard.evaluate.recording import Ask, RecordedTask, is_sampled
from tuneboard.evaluate.request import EngineFactory
from tuneboard.records import Candidate, Response

_ELSEWHERE = "the weights are not at hand, so that there is nothing to compare with"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two sets of answers to the same requests are apart."""

    logprobs: int
    """Log-probabilities that were compared, each that of a whole continuation or text."""
    largest: float | None
    """Largest difference of one of them; None without any."""
    mean: float | None
    """Mean of their absolute differences."""
    same_greedy: int
    """Continuations that both, or neither, would have written."""
    texts: int
    """Greedy texts that were compared."""
    same_texts: int


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """What checking an engine on some requests found."""

    requests: int
    failed: int
    """Requests that one side could not answer, or where what it answered is no number; they are compared in nothing."""
    reference: str | None
    """What the answers are held against; None where nothing was at hand."""
    difference: Agreement | None
    noise: Agreement
    """The same requests asked of the same engine twice."""
    reason: str | None = None
    """Why there is no reference."""

    def facts(self) -> dict[str, Any]:
        """Return the check for JSON and for a run's provenance."""
        return asdict(self)


@dataclass(slots=True)
class Checking:
    """One check under way: first the engine is asked twice; then, with it out of memory, the reference once.

    Args:
        count: Requests to ask at most.
        notice: Told what goes on.
    """

    count: int
    notice: Notice
    asks: list[tuple[str, Ask]] = field(default_factory=list)
    """Name of the candidate, and what it is asked."""
    answers: tuple[list[Response | None], list[Response | None]] = ([], [])

    def ask(self, engine: Engine, names: Mapping[str, str], asked: Iterable[tuple[str, RecordedTask]]) -> None:
        """Ask an engine twice.

        Args:
            engine: With all adapters attached.
            names: Candidate to its name in the engine.
            asked: Candidates' names with their tasks.

        Raises:
            EngineError: It broke.
        """
        self.asks = chosen(asked, self.count)
        self.notice(f"checking the engine: {len(self.asks)} requests, twice")
        first, second = (_answered(engine, names, self.asks) for _ in range(2))
        self.answers = (first, second)

    def compare(
        self, load: EngineFactory | None, candidates: Sequence[Candidate], names: Mapping[str, str]
    ) -> EngineCheck:
        """Ask the reference and return what came out; a reference that cannot answer is a reason, not an error.

        Args:
            load: Loads the reference; None where the weights are not at hand.
            candidates: Of one base.
            names: Candidate to its name in the engine.
        """
        first, second = self.answers
        noise, failed = agreement(first, second)
        if load is None:
            return EngineCheck(len(self.asks), failed, None, None, noise, _ELSEWHERE)
        try:
            info, theirs = self._reference(load, candidates, names)
        except Exception as error:  # as engines are; what was measured of the other stays
            return EngineCheck(len(self.asks), failed, None, None, noise, str(error))
        difference, failed = agreement(first, theirs)
        name = f"{info.name} {info.version} on {info.device} in {info.dtype}"
        return EngineCheck(len(self.asks), failed, name, difference, noise)

    def _reference(
        self, load: EngineFactory, candidates: Sequence[Candidate], names: Mapping[str, str]
    ) -> tuple[EngineInfo, list[Response | None]]:
        self.notice("checking the engine: loading the reference")
        reference = load(candidates[0].model, self.notice)
        try:
            for candidate in candidates:
                if candidate.adapter is not None:
                    reference.attach(candidate.name, candidate.adapter)
            return reference.info, _answered(reference, names, self.asks)
        finally:
            reference.close()


def chosen(asked: Iterable[tuple[str, RecordedTask]], count: int) -> list[tuple[str, Ask]]:
    """Choose requests for a check: of every candidate and task in turn, drawn by the requests' hashes.

    Args:
        asked: Candidates' names with their tasks.
        count: How many at most. Sampled texts are left out: two engines draw them differently.
    """
    columns = [
        [(name, ask) for _, ask in sorted(recorded.asks.items()) if not is_sampled(ask.kind, ask.arguments)]
        for name, recorded in asked
    ]
    rows = chain.from_iterable(zip_longest(*columns))
    return [one for one in rows if one is not None][:count]


def agreement(ours: Sequence[Response | None], theirs: Sequence[Response | None]) -> tuple[Agreement, int]:
    """Compare answers one by one; also returns how many pairs there was nothing to compare of."""
    differences: list[float] = []
    texts = same_texts = same_greedy = failed = 0
    for one, two in zip(ours, theirs, strict=True):
        if one is None or two is None:
            failed += 1
        elif isinstance(one, str) or isinstance(two, str):
            texts += 1
            same_texts += one == two
        else:
            (a, greedy), (b, other) = _logprob(one), _logprob(two)
            if math.isnan(a) or math.isnan(b):
                failed += 1
                continue
            # Both minus infinity is no difference, and would subtract to something that is no number.
            differences.append(0.0 if a == b else abs(a - b))
            same_greedy += greedy == other
    mean = math.fsum(differences) / len(differences) if differences else None
    found = Agreement(len(differences), max(differences, default=None), mean, same_greedy, texts, same_texts)
    return found, failed


def _logprob(response: tuple[float, bool] | float) -> tuple[float, bool]:
    return response if isinstance(response, tuple) else (response, False)


def _answered(engine: Engine, names: Mapping[str, str], asks: Sequence[tuple[str, Ask]]) -> list[Response | None]:
    work = [
        Work(place, names[name], ask.kind, ask.arguments, seed=ask.seed)  # type: ignore[arg-type]
        for place, (name, ask) in enumerate(asks)
    ]
    out: list[Response | None] = [None] * len(work)
    for answer in engine.run(work):
        out[answer.id] = answer.response
    return out
