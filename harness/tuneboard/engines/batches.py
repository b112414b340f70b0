"""Batches of sequences by length, smaller ones once memory ran out; and answers that survive a broken engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from tuneboard.engines.memory import is_out_of_memory, release
from tuneboard.engines.protocol import Answer, Notice, Work

#: Why a request fails whose batch of one did not fit.
TOO_LARGE = "out of memory with one text at a time; try --dtype bfloat16, --quantization 4bit or a lower --max-length"

_Made = TypeVar("_Made")


@dataclass(slots=True)
class Batches:
    """How many sequences go through a model together.

    Attributes:
        tokens: Most tokens of a batch, padding included; halved when memory runs out.
        rows: Most sequences of a batch.
        device: Where the model is.
        notice: Told about halved batches.
        ragged: Whether a batch may hold sequences of different lengths, the shorter ones padded.
    """

    tokens: int
    rows: int
    device: torch.device
    notice: Notice
    ragged: bool = True

    def run(
        self, lengths: Sequence[int], order: Sequence[int], compute: Callable[[list[int]], _Made]
    ) -> Iterator[tuple[list[int], _Made | None]]:
        """Compute everything, batch by batch.

        Args:
            lengths: Tokens of each sequence.
            order: One number per sequence; lower ones come first, and of those the longest.
            compute: Called with the places of a batch's sequences.

        Yields:
            The places and what ``compute`` made of them; None for one sequence that does not fit alone.
        """
        queue = sorted(range(len(lengths)), key=lambda place: (order[place], -lengths[place]))
        start = 0
        while start < len(queue):
            batch = self._next(queue, start, lengths)
            try:
                made = compute(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                made = None
            if made is None:
                release(self.device)
                if len(batch) > 1:
                    self._halve(len(batch), lengths[batch[0]])
                    continue
            yield batch, made
            start += len(batch)

    def _next(self, queue: list[int], start: int, lengths: Sequence[int]) -> list[int]:
        longest = max(1, lengths[queue[start]])
        batch = queue[start : start + max(1, min(self.rows, self.tokens // longest))]
        fits = (lengths[place] <= longest if self.ragged else lengths[place] == longest for place in batch)
        return batch[: next((count for count, fit in enumerate(fits) if not fit), len(batch)) or 1]

    def _halve(self, rows: int, longest: int) -> None:
        self.rows = rows // 2
        self.tokens = max(1, self.rows * longest)
        self.notice(f"out of memory: going on with {self.rows} texts at a time")


def guarded(work: Sequence[Work], answers: Iterator[Answer]) -> Iterator[Answer]:
    """Pass answers on; what breaks the engine fails the works that are still open, and nothing else."""
    open_ids = {item.id for item in work}
    try:
        for answer in answers:
            open_ids.discard(answer.id)
            yield answer
    except Exception as error:  # models and drivers may raise anything
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        for item in work:
            if item.id in open_ids:
                yield Answer(item.id, None, reason)
