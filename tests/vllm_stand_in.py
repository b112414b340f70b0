"""What vLLM returns, made without it: log-probabilities of a made-up model behind a prefix cache in whole blocks.

As in vLLM's V1 runner, rows of prompt tokens that were found in the cache are garbage; or as in V2, they are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VOCABULARY = 24
GARBAGE = -99.0


@dataclass
class Logprob:
    logprob: float
    rank: int


@dataclass
class Completion:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None = None


@dataclass
class Output:
    request_id: str
    outputs: list[Completion]
    num_cached_tokens: int | None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    finished: bool = True


def row(candidate: str, prefix: Sequence[int]) -> np.ndarray:
    """Log-probabilities of the next token, shape [vocabulary]."""
    seed = [len(candidate), *candidate.encode(), *map(int, prefix)]
    logits = np.random.default_rng(seed).normal(size=VOCABULARY) * 2
    return logits - np.log(np.exp(logits).sum())


def truth(candidate: str, tokens: Sequence[int], targets: Sequence[int]) -> tuple[float, bool]:
    """The summed log-probability of targets after tokens, and whether each was the likeliest, the plain way."""
    whole = [*map(int, tokens), int(targets[-1])]
    places = range(len(whole) - len(targets), len(whole))
    rows = [row(candidate, whole[:place]) for place in places]
    picked = [float(one[whole[place]]) for one, place in zip(rows, places, strict=True)]
    greedy = all(int(one.argmax()) == whole[place] for one, place in zip(rows, places, strict=True))
    return sum(picked), greedy


@dataclass
class StandIn:
    """Answers probes as vLLM would."""

    block: int = 4
    loses: set[int] = field(default_factory=set)
    """Numbers of the probes whose rows are missing, counted from 0; whatever the reason."""
    refuses: set[int] = field(default_factory=set)
    shortens: bool = False
    """Whether rows of cached tokens are left out."""
    probes: list[Any] = field(default_factory=list)
    computed: int = 0
    _cache: set[tuple[str, tuple[int, ...]]] = field(default_factory=set)

    def ask(self, probes: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        """Answer each probe, the later ones of a window first: nothing may depend on the order."""
        window: list[Any] = []
        for probe in probes:
            window.append((len(self.probes), probe))
            self.probes.append(probe)
            if len(window) == 5:
                yield from self._answers(window)
                window = []
        yield from self._answers(window)

    def _answers(self, window: list[Any]) -> Iterator[tuple[Any, Any]]:
        made = [(probe, self._output(number, probe)) for number, probe in window]
        yield from reversed(made)

    def _output(self, number: int, probe: Any) -> Any:
        if number in self.refuses:
            return "vLLM refuses the request: it is too long"
        tokens = probe.tokens.tolist()
        cached = 0 if probe.fresh else self._cached(probe.candidate, tokens)
        self.computed += len(tokens) - cached
        for end in range(self.block, len(tokens) + 1, self.block):
            self._cache.add((probe.candidate, tuple(tokens[:end])))
        after = row(probe.candidate, tokens)
        chosen = int(after.argmax())
        wanted = {token: _logprob(after, token) for token in (chosen, *probe.next_ids)}
        rows: list[dict[int, Logprob] | None] | None = None
        if probe.rows:
            rows = [None, *(self._prompt_row(probe, tokens, place, cached) for place in range(1, len(tokens)))]
            rows = rows[cached + 1 :] if self.shortens else rows
        if number in self.loses:
            rows = None if rows is None else [None] * len(rows)
            wanted = {chosen: wanted[chosen]}
        return Output(str(number), [Completion([chosen], [wanted])], cached, rows)

    def _prompt_row(self, probe: Any, tokens: list[int], place: int, cached: int) -> dict[int, Logprob]:
        if place - 1 < cached:
            return {tokens[place]: Logprob(GARBAGE, 1)}
        return {tokens[place]: _logprob(row(probe.candidate, tokens[:place]), tokens[place])}

    def _cached(self, candidate: str, tokens: list[int]) -> int:
        # The last token is always computed: its row is what is asked for.
        ends = range(self.block, len(tokens), self.block)
        return max((end for end in ends if (candidate, tuple(tokens[:end])) in self._cache), default=0)


def _logprob(row: np.ndarray, token: int) -> Logprob:
    return Logprob(float(row[token]), int((row > row[token]).sum()) + 1)
