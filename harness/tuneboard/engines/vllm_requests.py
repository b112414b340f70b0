"""Log-likelihood requests as vLLM answers them cheapest, and how its answers are read; imports nothing of vLLM.

A *probe* is one request to vLLM. It gives the log-probabilities of some tokens after its prompt
(``logprob_token_ids``), and where asked those of the prompt's own last tokens (``prompt_logprobs``), its *rows*:

- a context whose continuations are single tokens is one probe: it names them all;
- a context with one longer continuation is one probe: the prompt is context and continuation but for its last token;
- a context with several continuations is a probe that reads their first tokens, and one for each longer continuation,
  which finds the context in the prefix cache and reads the rest. Where continuations begin alike, the first of them
  reads those tokens for all.

vLLM computes no row for a prompt token that it finds in the cache, and gives garbage (V1) or nothing (V2) for it: the
token at ``p`` is readable only where ``p - 1`` was computed. What is not is asked again: one token as what follows the
tokens before it, more without the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from tuneboard.engines.tokens import ScoredSequence, Tokens, common_prefix, sort_key

#: Tokens that one request may name in ``logprob_token_ids``.
MOST_NEXT_IDS = 128


@dataclass(frozen=True, slots=True)
class Read:
    """What a probe tells of one sequence: its rows ``first`` to ``stop``, or ``token`` after the prompt."""

    part: int
    """Index of the sequence."""
    token: int | None = None
    first: int = 0
    """Place in the prompt of the first row."""
    stop: int = 0
    """Place behind the last one."""


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
        return tuple(sorted({read.token for read in self.reads if read.token is not None}))

    @property
    def rows(self) -> int:
        """How many of the prompt's last tokens are read."""
        length = len(self.tokens)
        return length - min((read.first for read in self.reads if read.token is None), default=length)


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

    Shift by shift (adapters that are ready together), group by group, candidate by candidate (they share nothing but
    the batch, which is computed fastest with few adapters in it), contexts with a common beginning together.

    Args:
        parts: What to score.
        shifts: Number of the shift of each candidate.
        places: Of the parts to score; None: all.
    """
    by_context: dict[tuple[Any, ...], list[int]] = {}
    for place in range(len(parts)) if places is None else places:
        part = parts[place]
        key = (shifts[part.candidate], part.group, part.candidate, sort_key(part.context))
        by_context.setdefault(key, []).append(place)
    for key in sorted(by_context):
        yield from _of_context(parts, by_context[key])


def _of_context(parts: Sequence[Part], members: list[int]) -> Iterator[Probe]:
    candidate, context = parts[members[0]].candidate, parts[members[0]].context
    texts: dict[bytes, list[int]] = {}
    for place in members:
        texts.setdefault(sort_key(parts[place].sequence.tokens[len(context) :]), []).append(place)
    alone = len(texts) == 1 and b"" not in texts
    if not alone:
        starts = [Read(place, int(parts[place].sequence.targets[0])) for place in members]
        yield from _chunks(candidate, context, starts)
    longer = [texts[key] for key in sorted(texts) if key]
    inputs = [parts[same[0]].sequence.tokens for same in longer]
    # The first token of each was read after the context, unless there is only one.
    shares = _shared_rows(inputs, len(context) + (not alone))
    for tokens, same, shared in zip(inputs, longer, shares, strict=True):
        rows = [Read(place, None, first, stop) for reader, first, stop in shared for place in longer[reader]]
        ends = [Read(place, int(parts[place].sequence.targets[-1])) for place in same]
        yield from _chunks(candidate, tokens, ends, rows)


def _shared_rows(inputs: Sequence[Tokens], start: int) -> list[list[tuple[int, int, int]]]:
    """Deal the tokens of some inputs to the first of them that has them with the same tokens before them.

    Args:
        inputs: Sorted, so that what begins alike stands together.
        start: Place of the first token to deal.

    Returns:
        For each input: of whose tokens it reads the rows, from which place, and to which.
    """
    out: list[list[tuple[int, int, int]]] = [[] for _ in inputs]
    owners: list[int] = []
    for number, tokens in enumerate(inputs):
        shared = common_prefix(tokens, inputs[number - 1]) if number else 0
        owners = owners[:shared] + [number] * (len(tokens) - shared)
        for owner, places in groupby(range(start, len(tokens)), key=owners.__getitem__):
            first, *rest = places
            out[owner].append((number, first, first + len(rest) + 1))
    return out


def _chunks(candidate: str, tokens: Tokens, after: list[Read], rows: Sequence[Read] = ()) -> Iterator[Probe]:
    """Name at most so many tokens in a request as vLLM takes; the first one reads the rows."""
    ids = sorted({read.token for read in after if read.token is not None})
    for start in range(0, len(ids), MOST_NEXT_IDS):
        named = set(ids[start : start + MOST_NEXT_IDS])
        own = () if start else tuple(rows)
        yield Probe(candidate, tokens, own + tuple(read for read in after if read.token in named))


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


def read(probe: Probe, output: Any) -> tuple[list[Reading], Probe | None]:
    """Read vLLM's answer to a probe.

    Args:
        probe: What was asked.
        output: vLLM's ``RequestOutput``.

    Returns:
        Readings of its sequences, and a probe for what is not among them: where the cache made rows unreadable, or a
        token is missing.
    """
    rows, after = _rows(probe, output), output.outputs[0].logprobs
    if not after or any(token not in after[0] for token in probe.next_ids) or None in rows[1:]:
        return [], replace(probe, fresh=True)
    start, chosen = len(probe.tokens) - len(rows), output.outputs[0].token_ids[0]
    out, rest = [], None
    if rows and rows[0] is None:
        token = int(probe.tokens[start])
        waiting = tuple(Read(one.part, token) for one in probe.reads if one.token is None and one.first == start)
        rest = Probe(probe.candidate, probe.tokens[:start], waiting, probe.fresh)
    for one in probe.reads:
        if one.token is not None:
            out.append(Reading(one.part, after[0][one.token].logprob, chosen == one.token, 1))
        elif own := [row for row in rows[one.first - start : one.stop - start] if row]:
            out.append(Reading(one.part, sum(value for value, _ in own), all(top for _, top in own), len(own)))
    return out, rest


def _rows(probe: Probe, output: Any) -> list[tuple[float, bool] | None]:
    """Return log-probability and whether it is the likeliest, for each row of a probe; None where it is unreadable."""
    count, length = probe.rows, len(probe.tokens)
    if count == 0:
        return []
    cached = 0 if probe.fresh else output.num_cached_tokens
    if cached is None:
        return [None] * count
    # Counted from the end: the list may lack rows of cached tokens.
    rows = ([None] * length + list(output.prompt_logprobs or ()))[-count:]
    out: list[tuple[float, bool] | None] = []
    for place, token, row in zip(range(length - count, length), probe.tokens[-count:].tolist(), rows, strict=True):
        there = place > cached and row is not None and token in row
        out.append((float(row[token].logprob), row[token].rank == 1) if there else None)
    return out
