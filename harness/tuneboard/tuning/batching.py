"""Encoded examples to batches: packed rows, rows of like length, or plain ones.

What is in a batch depends on the seed, the epoch and the lengths alone: not on the machine, nor on where a training
that was killed goes on.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Sampler

from tuneboard.tuning.encoding import NOT_TRAINED, Encoded
from tuneboard.tuning.isolation import document_bounds
from tuneboard.tuning.records import ModelKind

Batching = Literal["packed", "grouped", "plain"]
#: One item of the data set: the examples of a packed row, or a single one.
Row = tuple[Encoded, ...]

#: Batches among which lengths are sorted: enough for like lengths, few enough that each epoch mixes anew.
_POOL = 50


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows become tensors."""

    kind: ModelKind
    pad_id: int
    one_row: bool = False
    """Whether all documents of a batch stand in one row without padding, for attention by document."""
    packed: bool = False


def pack(examples: Sequence[Encoded], size: int, seed: int) -> list[Row]:
    """Join examples to rows of at most ``size`` tokens: the longest first, each into the fullest row that has room.

    Best-fit decreasing (Johnson 1974) fills all but a few rows; examples of one length come in an order drawn by the
    seed.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    order.sort(key=lambda index: -len(examples[index].ids))
    rows: list[list[Encoded]] = []
    by_room: list[list[int]] = [[] for _ in range(size + 1)]  # rows that have so many tokens left
    rooms: list[int] = []  # those that some row has, ascending
    for index in order:
        length = len(examples[index].ids)
        at = bisect.bisect_left(rooms, length)
        room = rooms[at] if at < len(rooms) else size
        if at == len(rooms):
            row = len(rows)
            rows.append([])
        else:
            row = by_room[room].pop()
            if not by_room[room]:
                rooms.pop(at)
        rows[row].append(examples[index])
        left = room - length
        if left and not by_room[left]:
            bisect.insort(rooms, left)
        by_room[left].append(row)
    return [tuple(row) for row in rows]


def single_rows(examples: Sequence[Encoded]) -> list[Row]:
    """Make each example a row of its own."""
    return [(example,) for example in examples]


class EpochOrder(Sampler[int]):
    """Yields rows in the order of one epoch.

    Args:
        rows: The data set.
        batch_size: Rows of a batch.
        grouped: Whether batches get rows of like length.
        seed: Draws the order, together with the epoch.
    """

    def __init__(self, rows: Sequence[Row], batch_size: int, grouped: bool, seed: int) -> None:
        self._lengths = np.asarray([sum(len(one.ids) for one in row) for row in rows])
        self._batch_size, self._grouped, self._seed = batch_size, grouped, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self.epoch])
        order = rng.permutation(len(self))
        if not self._grouped:
            return iter(order.tolist())
        pool = _POOL * self._batch_size
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        ordered = np.concatenate([one[np.argsort(-self._lengths[one], kind="stable")] for one in pools])
        batches = [ordered[start : start + self._batch_size] for start in range(0, len(ordered), self._batch_size)]
        last = [batches.pop()] if len(batches[-1]) < self._batch_size else []
        mixed = [batches[index] for index in rng.permutation(len(batches))] + last
        return iter(np.concatenate(mixed).tolist())


def batches_of_like_length(rows: Sequence[Row], batch_size: int) -> list[list[Row]]:
    """Cut rows into batches in order of length, for validation."""
    ordered = sorted(rows, key=lambda row: -sum(len(one.ids) for one in row))
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def steps_per_epoch(rows: int, batch_size: int, accumulation: int) -> int:
    """Return the optimizer steps of one epoch."""
    return math.ceil(math.ceil(rows / batch_size) / accumulation)


def collator(layout: Layout) -> Callable[[Sequence[Row]], dict[str, Any]]:
    """Return the function that makes a batch's tensors.

    Causal labels are shifted here: ``labels[i]`` is what position ``i`` predicts. ``tokens`` counts what is not
    padding.
    """
    if layout.one_row:
        return lambda rows: _one_row(rows)
    if layout.packed:
        return lambda rows: _packed(rows, layout.pad_id)
    if layout.kind == "causal":
        return lambda rows: _padded_causal(rows, layout.pad_id)
    return lambda rows: _padded(rows, layout)


def _one_row(rows: Sequence[Row]) -> dict[str, Any]:
    documents = [one for row in rows for one in row]
    lengths = [len(one.ids) for one in documents]
    return {
        "input_ids": _tensor(np.concatenate([one.ids for one in documents]))[None],
        "position_ids": _tensor(np.concatenate([np.arange(length) for length in lengths]))[None],
        "labels": _tensor(np.concatenate([_next(one) for one in documents]))[None],
        "tokens": sum(lengths),
        **document_bounds(lengths),
    }


def _packed(rows: Sequence[Row], pad_id: int) -> dict[str, Any]:
    """Padding is a document of its own: an attention mask would switch off the masks between documents."""
    joined = [_one_row([row]) for row in rows]
    width = max(one["input_ids"].shape[1] for one in joined)
    out: dict[str, Any] = {"tokens": sum(one["tokens"] for one in joined)}
    for name, fill in (("input_ids", pad_id), ("position_ids", 0), ("labels", NOT_TRAINED)):
        out[name] = torch.full((len(rows), width), fill)
        for index, one in enumerate(joined):
            size = one[name].shape[1]
            out[name][index, :size] = one[name][0]
            if name == "position_ids":
                out[name][index, size:] = torch.arange(width - size)
    return out


def _padded_causal(rows: Sequence[Row], pad_id: int) -> dict[str, Any]:
    examples = [one for row in rows for one in row]
    return {
        **_inputs(examples, pad_id),
        "labels": _stack([_next(one) for one in examples], NOT_TRAINED),
        "tokens": sum(len(one.ids) for one in examples),
    }


def _padded(rows: Sequence[Row], layout: Layout) -> dict[str, Any]:
    examples = [one for row in rows for one in row]
    tokens = sum(len(one.ids) for one in examples)
    batch: dict[str, Any] = {**_inputs(examples, layout.pad_id), "tokens": tokens}
    if layout.kind == "seq2seq":
        batch["tokens"] = tokens + sum(len(one.labels) for one in examples)
        return {**batch, "labels": _stack([one.labels for one in examples], NOT_TRAINED)}
    if any(one.types is not None for one in examples):
        types = [one.types if one.types is not None else np.zeros_like(one.ids) for one in examples]
        batch["token_type_ids"] = _stack(types, 0)
    return {**batch, "labels": _tensor(np.concatenate([one.labels for one in examples]))}


def _inputs(examples: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    mask = _stack([np.ones_like(one.ids) for one in examples], 0)
    return {"input_ids": _stack([one.ids for one in examples], pad_id), "attention_mask": mask}


def _next(example: Encoded) -> Any:
    """The label of the token after each position."""
    return np.append(example.labels[1:], NOT_TRAINED)


def _stack(arrays: Sequence[Any], fill: int) -> torch.Tensor:
    out = torch.full((len(arrays), max(len(array) for array in arrays)), fill)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = _tensor(array)
    return out


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.int64))
