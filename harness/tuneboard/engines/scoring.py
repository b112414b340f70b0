"""Log-likelihoods of many requests by walks over their prefix tree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tuneboard.engines.forward import TreeModel
from tuneboard.engines.memory import is_out_of_memory, release
from tuneboard.engines.prefix import Budget, Crop, Extend, Pack, Plan, Row, Step, lay_out
from tuneboard.engines.protocol import Notice
from tuneboard.engines.tokens import ScoredSequence
from tuneboard.errors import OutOfMemory

#: Rows of logits that are normalised at a time: bounds the float32 copy at large vocabularies.
_LOGIT_ROWS = 256


@dataclass(frozen=True, slots=True)
class Scored:
    """Results of one forward pass.

    Attributes:
        results: ``(index of the request, summed log-probability, whether every target was the likeliest token)``.
        computed: Tokens that the pass put through the model.
    """

    results: list[tuple[int, float, bool]]
    computed: int


class TreeScorer:
    """Scores requests with one model; every shared prefix is computed once.

    Args:
        model: The model; its active adapter is scored.
        budget: Halved when memory runs out.
        notice: Told about that.
    """

    def __init__(self, model: TreeModel, budget: Budget, notice: Notice) -> None:
        self.model, self.budget, self.notice = model, budget, notice

    def score(self, requests: Sequence[ScoredSequence], order: Sequence[int]) -> Iterator[Scored]:
        """Score all requests, yielding after every forward pass.

        Args:
            requests: What to feed and to score.
            order: One number per request; lower ones come first where that costs nothing.

        Raises:
            OutOfMemory: A row of 16 tokens does not fit.
        """
        run = _Run(requests, order, self.budget)
        self.model.crop(0)
        for step in run.plan.steps():
            yield from self._do(run, step)
        self.model.crop(0)

    def _do(self, run: _Run, step: Step) -> Iterator[Scored]:
        try:
            if isinstance(step, Crop):
                self.model.crop(step.depth)
            elif isinstance(step, Extend):
                yield self._extend(run, step)
            else:
                yield self._pack(run, step)
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or isinstance(step, Crop):
                raise
            depth = step.start if isinstance(step, Extend) else step.depth
            self._halve(error)
        self.model.crop(depth)
        release(self.model.device)
        for smaller in _smaller(run.plan, step, self.budget.row_tokens):
            yield from self._do(run, smaller)

    def _halve(self, error: BaseException) -> None:
        if self.budget.row_tokens <= 16:
            raise OutOfMemory(
                "out of memory even at 16 tokens a pass; try --dtype bfloat16 or --quantization 4bit"
            ) from error
        self.budget.row_tokens //= 2
        self.notice(f"out of memory: going on with {self.budget.row_tokens} tokens a pass")

    def _extend(self, run: _Run, step: Extend) -> Scored:
        positions = np.arange(step.start, step.stop, dtype=np.int32)
        reads = run.reads_in(step.sequences, step.start, step.stop)
        tokens = run.plan.tokens[step.first][step.start : step.stop]
        return Scored(self._read(run, reads, Row(tokens, positions, None, {}, (0,))), len(tokens))

    def _pack(self, run: _Run, step: Pack) -> Scored:
        row = lay_out(run.plan, step)
        reads = run.reads_of(row.slots, step.depth)
        results = self._read(run, reads, row)
        self.model.crop(step.depth)
        return Scored(results, len(row.tokens))

    def _read(self, run: _Run, reads: _Reads, row: Row) -> list[tuple[int, float, bool]]:
        keep, at = np.unique(reads.slots, return_inverse=True)
        logits = self.model.forward(row.tokens, row.positions, row.allowed, keep, row.starts)
        picked, best = pick(logits, at, reads.targets)
        return run.collect(reads, picked, best)


@torch.inference_mode()
def pick(
    logits: torch.Tensor, rows: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the log-probability of each target in its row of logits, and whether it is the likeliest token.

    It is NaN where the logits are not all numbers.

    Args:
        logits: Shape [kept, vocabulary].
        rows: Row of each target, ascending or not, shape [n].
        targets: Token ids, shape [n].
    """
    picked = np.empty(len(rows), dtype=np.float64)
    best = np.empty(len(rows), dtype=np.bool_)
    by_row = np.argsort(rows, kind="stable")
    edges = np.searchsorted(rows[by_row], np.arange(0, len(logits) + _LOGIT_ROWS, _LOGIT_ROWS))
    precision = torch.promote_types(logits.dtype, torch.float32)
    for part, (a, b) in enumerate(pairwise(edges)):
        if a == b:
            continue
        chunk = logits[part * _LOGIT_ROWS : (part + 1) * _LOGIT_ROWS].to(precision)
        which = by_row[a:b]
        row = torch.from_numpy(rows[which] - part * _LOGIT_ROWS).to(chunk.device)
        target = torch.from_numpy(targets[which]).to(chunk.device)
        peaks, likeliest = chunk.max(dim=-1)
        scores = torch.log_softmax(chunk, dim=-1)
        scores[~peaks.isfinite()] = torch.nan
        picked[which] = scores[row, target].cpu().numpy()
        best[which] = (likeliest[row] == target).cpu().numpy()
    return picked, best


def summed(picked: npt.NDArray[np.float64]) -> float:
    """Sum the log-probabilities of one request, shape [n]; in float32 a sum near -600 would move by steps of 6e-5."""
    return float(picked.sum())


@dataclass(frozen=True, slots=True)
class _Reads:
    """Positions to read in one pass: parallel arrays, shape [n]."""

    requests: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


class _Run:
    """One call of ``score``: which requests end on which distinct sequence, and what has been read of them so far."""

    def __init__(self, requests: Sequence[ScoredSequence], order: Sequence[int], budget: Budget) -> None:
        self.requests = requests
        by_bytes: dict[bytes, int] = {}
        members: list[list[int]] = []
        for index, request in enumerate(requests):
            at = by_bytes.setdefault(request.tokens.tobytes(), len(members))
            if at == len(members):
                members.append([])
            members[at].append(index)
        first = [min(order[i] for i in group) for group in members]
        self.plan = Plan([requests[group[0]].tokens for group in members], first, budget)
        self.members = [members[i] for i in self.plan.source]
        self.first_read = np.asarray(
            [min(len(requests[i].tokens) - len(requests[i].targets) for i in group) for group in self.members]
        )
        self._picked: defaultdict[int, list[npt.NDArray[np.float64]]] = defaultdict(list)
        self._greedy: dict[int, bool] = {}

    def reads_in(self, sequences: range, start: int, stop: int) -> _Reads:
        """Reads of shared tokens ``start`` to ``stop``, which all of ``sequences`` have in common."""
        early = np.flatnonzero(self.first_read[sequences.start : sequences.stop] < stop) + sequences.start
        slots = np.arange(stop - start)
        return self._gather([(int(i), slots, start, stop) for i in early])

    def reads_of(self, slots: dict[int, npt.NDArray[np.int64]], depth: int) -> _Reads:
        """Reads of the sequences that end in a row; ``slots`` holds their tokens from ``depth`` on."""
        return self._gather([(i, path, depth, depth + len(path)) for i, path in slots.items()])

    def _gather(self, parts: list[tuple[int, npt.NDArray[np.int64], int, int]]) -> _Reads:
        columns: tuple[list[npt.NDArray[Any]], ...] = ([], [], [], [])
        requests, places, slots, targets = columns
        for sequence, path, start, stop in parts:
            for index in self.members[sequence]:
                request = self.requests[index]
                first = len(request.tokens) - len(request.targets)
                a, b = max(first, start), stop
                if a < b:
                    requests.append(np.full(b - a, index))
                    places.append(np.arange(a - first, b - first))
                    slots.append(path[a - start : b - start])
                    targets.append(request.targets[a - first : b - first])
        return _Reads(*(_joined(column) for column in columns))

    def collect(
        self, reads: _Reads, picked: npt.NDArray[np.float64], best: npt.NDArray[np.bool_]
    ) -> list[tuple[int, float, bool]]:
        """Add what a pass read; returns the requests that are complete now."""
        done = []
        edges = np.flatnonzero(np.diff(reads.requests)) + 1
        for part in np.split(np.arange(len(reads.requests)), edges) if len(reads.requests) else ():
            index = int(reads.requests[part[0]])
            self._picked[index].append(picked[part])
            self._greedy[index] = self._greedy.get(index, True) and bool(best[part].all())
            if reads.places[part[-1]] == len(self.requests[index].targets) - 1:
                logprob = summed(np.concatenate(self._picked.pop(index)))
                done.append((index, logprob, self._greedy.pop(index)))
        return done


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)


def _smaller(plan: Plan, step: Extend | Pack, row_tokens: int) -> Iterator[Step]:
    if isinstance(step, Pack):
        yield from plan.resume(step)
        return
    for start in range(step.start, step.stop, row_tokens):
        yield Extend(step.first, start, min(start + row_tokens, step.stop), step.sequences)
