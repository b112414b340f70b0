"""Attention of a tree-masked row without most of what its mask forbids, on the CPU.

A row holds the ends of many sequences that part at different tokens. One masked product over everything computes, for
each token, the keys of all other sequences too, and throws them away: a third to three quarters of the work even with
rows of 512 tokens. Here each chunk of the row attends to the cache, to its ancestors in the row and to itself, in one
masked product: one softmax per token over its own keys in their order, which is what a whole prompt alone computes. Two
products joined by their log-sum-exps cost the same time and were half as far again from that in the last bits; products
and softmax one after the other, instead of torch's fused kernel, took a tenth longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

#: Name under which models find it.
TREE_ATTENTION = "tuneboard_tree"
#: Least tokens of a chunk: from here on torch's kernel takes 64 queries at a time, and half the time for each.
_CHUNK = 192
#: Arguments that change the product itself; with any of them the ordinary way is taken.
_SPECIAL = ("softcap", "s_aux", "position_bias", "sliding_window")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring tokens of a row.

    Attributes:
        queries: First query of the chunk, last query + 1.
        slots: First slot of the chunk, last slot + 1.
        ancestors: Slots before the chunk that some of it attends to, ascending, shape [ancestors].
        mask: Additive mask over the cache, the ancestors and the chunk's slots, shape [1, 1, queries, keys].
    """

    queries: tuple[int, int]
    slots: tuple[int, int]
    ancestors: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where the chunks of a row stand.

    Attributes:
        depth: Cached tokens before the row, virtual ones at the root included.
        chunks: In order; together they hold all queries.
    """

    depth: int
    chunks: tuple[Chunk, ...]

    @property
    def queries(self) -> int:
        """Number of positions that attend."""
        return self.chunks[-1].queries[1]

    def only(self, kept: npt.NDArray[np.int64]) -> RowLayout:
        """Return the layout of the queries ``kept`` alone, ascending slots of the row, shape [kept]."""
        chunks = []
        for chunk in self.chunks:
            first, last = np.searchsorted(kept, chunk.slots)
            if first < last:
                mask = chunk.mask[:, :, torch.from_numpy(kept[first:last] - chunk.slots[0])]
                chunks.append(replace(chunk, queries=(int(first), int(last)), mask=mask))
        return RowLayout(self.depth, tuple(chunks))


_layouts: ContextVar[dict[int, RowLayout]] = ContextVar("row_layouts", default={})  # noqa: B039  # never changed


@contextmanager
def laid_out(*layouts: RowLayout) -> Iterator[None]:
    """Within it, models with ``TREE_ATTENTION`` attend by the layout that has as many queries as they."""
    token = _layouts.set({layout.queries: layout for layout in layouts})
    try:
        yield
    finally:
        _layouts.reset(token)


def chunked(starts: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Cut a row into chunks, each at the sequence that begins nearest to an even share of what is left, if one may.

    Args:
        starts: First slot of each sequence's own tokens, ascending, from 0.
        size: Tokens of the row.
    """
    out, first = [], 0
    for left in range(size // _CHUNK, 1, -1):
        aim = first + (size - first) // left
        earliest, latest = first + _CHUNK, size - (left - 1) * _CHUNK
        last = min((s for s in starts if earliest <= s <= latest), key=lambda start: abs(start - aim), default=aim)
        out.append((first, last))
        first = last
    return [*out, (first, size)]


def lay_out_row(inside: npt.NDArray[np.bool_], cached: int, starts: Sequence[int], dtype: torch.dtype) -> RowLayout:
    """Cut a row into chunks that attend to what they must.

    Args:
        inside: Which token of the row attends to which token of it, shape [row, row].
        cached: Tokens in the cache, which all attend to.
        starts: First slot of each sequence's own tokens, ascending, from 0.
        dtype: Of the masks.
    """
    chunks = []
    for first, last in chunked(starts, len(inside)):
        ancestors = np.flatnonzero(inside[first:last, :first].any(axis=0))
        allowed = np.ones((last - first, cached + len(ancestors) + last - first), dtype=np.bool_)
        allowed[:, cached:] = inside[first:last, np.concatenate([ancestors, np.arange(first, last)])]
        mask = additive(allowed, dtype)[None, None]
        chunks.append(Chunk((first, last), (first, last), torch.from_numpy(ancestors), mask))
    return RowLayout(cached, tuple(chunks))


def additive(allowed: npt.NDArray[np.bool_], dtype: torch.dtype) -> torch.Tensor:
    """Return 0 where a key is seen and the lowest number where it is not, shape as given: [queries, keys]."""
    mask = torch.zeros(allowed.shape, dtype=dtype)
    return mask.masked_fill_(torch.from_numpy(~allowed), torch.finfo(dtype).min)


def install(model: Any) -> bool:
    """Let a model attend by row layouts where it can; returns whether it does."""
    if model.config._attn_implementation != "sdpa" or next(model.parameters()).device.type != "cpu":
        return False
    ALL_ATTENTION_FUNCTIONS.register(TREE_ATTENTION, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(TREE_ATTENTION, sdpa_mask)
    model.set_attn_implementation(TREE_ATTENTION)
    return bool(model.config._attn_implementation == TREE_ATTENTION)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    layout = _layouts.get().get(query.shape[2])
    if layout is None or any(options.get(name) is not None for name in _SPECIAL):
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return out, None
    groups = query.shape[1] // key.shape[1]
    seen_keys, seen_values = (_seen(repeat_kv(states, groups), layout) for states in (key, value))
    parts = []
    for chunk, keys, values in zip(layout.chunks, seen_keys, seen_values, strict=True):
        queries = query[:, :, slice(*chunk.queries)]
        parts.append(scaled_dot_product_attention(queries, keys, values, attn_mask=chunk.mask, scale=scaling))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _seen(states: torch.Tensor, layout: RowLayout) -> Iterator[torch.Tensor]:
    """Yield what each chunk sees: the cached states, its ancestors' and its own, shape [1, heads, seen, dim].

    Each is valid until the next: the cached states are copied once, and the chunks take turns behind them.
    """
    depth = layout.depth
    turns: torch.Tensor | None = None
    for chunk in layout.chunks:
        first, last = chunk.slots
        if len(chunk.ancestors) == first:
            yield states[:, :, : depth + last]
            continue
        if turns is None:
            turns = states.new_empty(
                *states.shape[:2], max(each.mask.shape[3] for each in layout.chunks), states.shape[3]
            )
            turns[:, :, :depth] = states[:, :, :depth]
        own = depth + len(chunk.ancestors)
        turns[:, :, depth:own] = states.index_select(2, depth + chunk.ancestors)
        turns[:, :, own : own + last - first] = states[:, :, depth + first : depth + last]
        yield turns[:, :, : own + last - first]
