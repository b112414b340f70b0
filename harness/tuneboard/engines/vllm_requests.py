"""Log-likelihood requests as vLLM answers them cheapest, and how its answers are read; imports nothing of vLLM.

A *probe* is one request to vLLM. It gives the log-probabilities of some tokens after its prompt
(``logprob_token_ids``), and where asked those of the prompt's own last tokens (``prompt_logprobs``):

- a context whose continuations are single tokens is one probe: it names them all;
- a context with one longer continuation is one probe: the prompt is context and continuation but for its last token;
- a context with several continuations is a probe that reads their first tokens, and one for each longer continuation,
  which finds the context in the prefix cache and reads the rest.

vLLM computes no row for a prompt token that it finds in the cache, and gives garbage (V1) or nothing (V2) for it: the
token at ``p`` is readable only where ``p - 1`` was computed. What is not is asked again without the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuneboard.engines.tokens import ScoredSequence, Tokens, sort_key

#: Tokens that one request may name in ``logprob_token_ids``.
MOST_NEXT_IDS = 128


@dataclass(frozen=True, slots=True)
class Read:
    """What a probe tells of one sequence: its last ``rows`` prompt tokens, and ``token`` after the prompt."""

    part: int
    """Index of the sequence."""
    rows: int
    token: int


@dataclass(frozen=True, slots=True)
class Probe:
    """One request to vLLM."""

    candidate: str
    tokens: Tokens
    """The prompt, shape [length]."""
    reads: tuple[Read, ...]
    fresh: bool = False
    """Whether the prefix cache must not be read."""

    @property
    def next_ids(self) -> tuple[int, ...]:
        """Tokens whose log-probabilities after the prompt are wanted, ascending."""
        return tuple(sorted({read.token for read in self.reads}))

    @property
    def rows(self) -> int:
        """How many of the prompt's last tokens are read."""
        return max(read.rows for read in self.reads)


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence to score, for one candidate."""

    candidate: str
    sequence: ScoredSequence
    group: int = 0
    """Lower groups come first."""

    @property
    def context(self) -> Tokens:
        """What stands before the first scored token."""
        tokens, targets = self.sequence.tokens, self.sequence.targets
        return tokens[: len(tokens) - len(targets) + 1]


def probes(parts: Sequence[Part], shifts: Mapping[str, int], places: Sequence[int] | None = None) -> Iterator[Probe]:
    """Yield the probes that score all parts, in the order that finds most prefixes in the cache.

    Shift by shift (adapters that are ready together), group by group, contexts with a common beginning together; one
    context's candidates follow each other, for they share nothing but the batch.

    Args:
        parts: What to score.
        shifts: Number of the shift of each candidate.
        places: Of the parts to score; None: all.
    """
    by_context: dict[tuple[Any, ...], list[int]] = {}
    for place in range(len(parts)) if places is None else places:
        part = parts[place]
        key = (shifts[part.candidate], part.group, sort_key(part.context), part.candidate)
        by_context.setdefault(key, []).append(place)
    for key in sorted(by_context):
        yield from _of_context(parts, by_context[key])


def _of_context(parts: Sequence[Part], members: list[int]) -> Iterator[Probe]:
    first = parts[members[0]]
    by_tokens: dict[bytes, list[int]] = {}
    for place in members:
        by_tokens.setdefault(parts[place].sequence.tokens.tobytes(), []).append(place)
    if len(by_tokens) == 1 and len(first.sequence.targets) > 1:
        yield from _chunks(first.candidate, first.sequence.tokens, [_whole(parts, place) for place in members])
        return
    starts = [Read(place, 0, int(parts[place].sequence.targets[0])) for place in members]
    yield from _chunks(first.candidate, first.context, starts)
    for same in by_tokens.values():
        longer = [place for place in same if len(parts[place].sequence.targets) > 1]
        if longer:
            rest = [replace(_whole(parts, place), rows=len(parts[place].sequence.targets) - 2) for place in longer]
            yield from _chunks(first.candidate, parts[longer[0]].sequence.tokens, rest)


def again(probe: Probe) -> Probe:
    """Return a probe that computes its whole prompt, for one that the cache made unreadable."""
    return replace(probe, fresh=True)


def _whole(parts: Sequence[Part], place: int) -> Read:
    targets = parts[place].sequence.targets
    return Read(place, len(targets) - 1, int(targets[-1]))


def _chunks(candidate: str, tokens: Tokens, reads: list[Read]) -> Iterator[Probe]:
    """Name at most so many tokens in a request as vLLM takes."""
    ids = sorted({read.token for read in reads})
    for start in range(0, len(ids), MOST_NEXT_IDS):
        named = set(ids[start : start + MOST_NEXT_IDS])
        yield Probe(candidate, tokens, tuple(read for read in reads if read.token in named))


@dataclass(frozen=True, slots=True)
class Reading:
    """What one probe told of one sequence."""

    part: int
    logprob: float
    """Sum over the tokens that were read."""
    greedy: bool
    """Whether each of them was the likeliest."""
    count: int
    """How many they were."""


def computed_tokens(probe: Probe, output: Any) -> int:
    """Return how many tokens of a probe's prompt went through the model."""
    return len(probe.tokens) - (output.num_cached_tokens or 0)


def read(probe: Probe, output: Any) -> list[Reading] | None:
    """Read vLLM's answer to a probe.

    Args:
        probe: What was asked.
        output: vLLM's ``RequestOutput``.

    Returns:
        One reading per sequence; None where the cache made a row unreadable, or a token is missing.
    """
    rows = _rows(probe, output)
    after = output.outputs[0].logprobs
    if rows is None or not after or any(token not in after[0] for token in probe.next_ids):
        return None
    chosen = output.outputs[0].token_ids[0]
    out = []
    for one in probe.reads:
        own = rows[len(rows) - one.rows :]
        logprob = sum(value for value, _ in own) + after[0][one.token].logprob
        out.append(Reading(one.part, logprob, chosen == one.token and all(top for _, top in own), one.rows + 1))
    return out


def _rows(probe: Probe, output: Any) -> list[tuple[float, bool]] | None:
    """Return log-probability and whether it is the likeliest, for each of the prompt's tokens that are wanted."""
    count = probe.rows
    if count == 0:
        return []
    cached = 0 if probe.fresh else output.num_cached_tokens
    rows = output.prompt_logprobs
    if cached is None or rows is None or len(rows) < count or len(probe.tokens) - count - 1 < cached:
        return None
    out = []
    # Counted from the end: the list may lack rows of cached tokens.
    for token, row in zip(probe.tokens[-count:].tolist(), rows[-count:], strict=True):
        if row is None or token not in row:
            return None
        out.append((float(row[token].logprob), row[token].rank == 1))
    return out
