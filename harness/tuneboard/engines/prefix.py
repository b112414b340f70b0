"""Plans the order in which a set of token sequences goes through a model so that no shared prefix is computed twice.

The sequences form a prefix tree. A ``Plan`` walks it depth first and emits two kinds of steps:

- ``Extend``: tokens shared by many sequences are appended to the one key-value cache that all later steps build on;
- ``Pack``: whole subtrees go through the model in *one row* behind that cache. Each token attends to the cache and to
  its own ancestors in the row only (a tree mask), so a row holds many questions and all their choices, unpadded.

``Crop`` steps take the cache back to an earlier length. Every token of the tree is computed once, except short prefixes
that few rows share: there a forward pass of a few tokens would cost more (``min_extend``) than computing them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuneboard.engines.tokens import Tokens, common_prefix, sort_key


@dataclass(slots=True)
class Budget:
    """How much goes into one forward pass; halved by whoever runs out of memory."""

    row_tokens: int
    """Most tokens of one row."""
    row_sequences: int = 1 << 30
    """Most sequences of one row."""
    min_extend: int = 24
    """A forward pass costs as much as this many tokens: what a shared prefix must save to get one of its own."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Append ``tokens[start:stop]`` of sequence ``first`` to the cache; it is shared by all of ``sequences``."""

    first: int
    start: int
    stop: int
    sequences: range


@dataclass(frozen=True, slots=True)
class Pack:
    """Send the subtrees of some ranges of sequences through the model in one row, behind ``depth`` cached tokens."""

    depth: int
    ranges: tuple[range, ...]

    @property
    def sequences(self) -> list[int]:
        """Indices of the sequences that end in this row."""
        return [i for part in self.ranges for i in part]


@dataclass(frozen=True, slots=True)
class Crop:
    """Take the cache back to ``depth`` tokens."""

    depth: int


Step: TypeAlias = Extend | Pack | Crop


class Plan:
    """A walk over the prefix tree of ``sequences``.

    Args:
        sequences: Distinct token sequences, each shape [length >= 1].
        order: One number per sequence; subtrees with a lower number come first.
        budget: Read anew at every step, so that halving it takes effect at once.
    """

    def __init__(self, sequences: Sequence[Tokens], order: Sequence[int], budget: Budget) -> None:
        by_tokens = sorted(range(len(sequences)), key=lambda i: sort_key(sequences[i]))
        self.source = by_tokens
        """Index into the given sequences for each index of the plan."""
        self.tokens = [sequences[i] for i in by_tokens]
        self.budget = budget
        self._order = np.asarray([order[i] for i in by_tokens], dtype=np.int64)
        self._length = np.asarray([len(t) for t in self.tokens], dtype=np.int64)
        pairs = zip(self.tokens[:-1], self.tokens[1:], strict=True) if self.tokens else iter(())
        self._lcp = np.asarray([0, *(common_prefix(a, b) for a, b in pairs)], dtype=np.int64)

    @property
    def distinct(self) -> int:
        """Nodes of the prefix tree: the fewest tokens that must be computed."""
        return int((self._length - self._lcp).sum()) if self.tokens else 0

    def steps(self) -> Iterator[Step]:
        """Walk the whole tree; every sequence ends in exactly one ``Pack``."""
        if self.tokens:
            yield from self._solve(range(len(self.tokens)), 0)

    def resume(self, pack: Pack) -> Iterator[Step]:
        """Walk the subtrees of a ``Pack`` that did not fit into memory again, under the budget as it is now."""
        yield from self._pack_children(list(pack.ranges), pack.depth)

    def segments(self, pack: Pack) -> Iterator[tuple[int, int]]:
        """Yield ``(sequence, start)`` for each sequence of a row: its tokens from ``start`` on are new to the row."""
        before: Tokens | None = None
        for part in pack.ranges:
            for i in part:
                if before is None:
                    start = pack.depth
                elif i == part.start:
                    start = common_prefix(before, self.tokens[i])
                else:
                    start = int(self._lcp[i])
                yield i, start
                before = self.tokens[i]

    def _new_tokens(self, part: range, depth: int) -> int:
        shared = self._lcp[part.start : part.stop].copy()
        shared[0] = depth
        return int((self._length[part.start : part.stop] - shared).sum())

    def _fits(self, tokens: int, sequences: int) -> bool:
        return tokens <= self.budget.row_tokens and sequences <= self.budget.row_sequences

    def _solve(self, part: range, depth: int) -> Iterator[Step]:
        if self._fits(self._new_tokens(part, depth), len(part)):
            yield Pack(depth, (part,))
            return
        single = len(part) == 1
        length = int(self._length[part.start])
        common = length if single else int(self._lcp[part.start + 1 : part.stop].min())
        # The last token of a sequence always belongs to a Pack, so that every sequence ends in one.
        cacheable = min(common, length - 1)
        cached = depth
        rows = self._new_tokens(part, depth) / self.budget.row_tokens
        if single or (cacheable - depth) * rows >= self.budget.min_extend:
            while cached < cacheable and not (single and length - cached <= self.budget.row_tokens):
                stop = min(cacheable, cached + self.budget.row_tokens)
                yield Extend(part.start, cached, stop, part)
                cached = stop
        if single:
            yield Pack(cached, (part,))
        else:
            yield from self._pack_children(self._children(part, common), cached)
        if cached > depth:
            yield Crop(depth)

    def _children(self, part: range, common: int) -> list[range]:
        lcp = self._lcp[part.start + 1 : part.stop]
        cuts = [part.start, *(np.flatnonzero(lcp <= common) + part.start + 1).tolist(), part.stop]
        children = [range(a, b) for a, b in pairwise(cuts)]
        return sorted(children, key=lambda c: int(self._order[c.start : c.stop].min()))

    def _pack_children(self, children: list[range], depth: int) -> Iterator[Step]:
        batch: list[range] = []
        tokens = sequences = 0
        for child in children:
            # Upper bound: what a child shares with its neighbours beyond the cache is counted with each.
            size = self._new_tokens(child, depth)
            if not self._fits(size, len(child)):
                if batch:
                    yield Pack(depth, tuple(batch))
                    batch, tokens, sequences = [], 0, 0
                yield from self._solve(child, depth)
                continue
            if batch and not self._fits(tokens + size, sequences + len(child)):
                yield Pack(depth, tuple(batch))
                batch, tokens, sequences = [], 0, 0
            batch.append(child)
            tokens, sequences = tokens + size, sequences + len(child)
        if batch:
            yield Pack(depth, tuple(batch))


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row, ready for a model.

    Attributes:
        tokens: Shape [row].
        positions: Position of each token in its own sequence, shape [row].
        allowed: Which token of the row attends to which token of it, shape [row, row]; None for one plain sequence.
            The cache is open to all.
        slots: For each sequence of the row, the slots of its tokens from ``depth`` on, in order.
        starts: First slot of each sequence's own tokens, in order.
    """

    tokens: Tokens
    positions: Tokens
    allowed: npt.NDArray[np.bool_] | None
    slots: dict[int, npt.NDArray[np.int64]]
    starts: tuple[int, ...]


def lay_out(plan: Plan, pack: Pack) -> Row:
    """Lay the subtrees of a ``Pack`` out in one row with its tree mask."""
    segments = list(plan.segments(pack))
    size = sum(len(plan.tokens[i]) - start for i, start in segments)
    tokens = np.empty(size, dtype=np.int32)
    positions = np.empty(size, dtype=np.int32)
    allowed = np.zeros((size, size), dtype=np.bool_)
    path = np.empty(0, dtype=np.int64)
    slots: dict[int, npt.NDArray[np.int64]] = {}
    starts = []
    at = 0
    for i, start in segments:
        starts.append(at)
        stop = at + len(plan.tokens[i]) - start
        tokens[at:stop] = plan.tokens[i][start:]
        positions[at:stop] = np.arange(start, len(plan.tokens[i]))
        ancestors = path[: start - pack.depth]
        allowed[at:stop, ancestors] = True
        allowed[at:stop, at:stop] = np.tri(stop - at, dtype=np.bool_)
        path = np.concatenate([ancestors, np.arange(at, stop)])
        slots[i] = path
        at = stop
    return Row(tokens, positions, allowed, slots, tuple(starts))
