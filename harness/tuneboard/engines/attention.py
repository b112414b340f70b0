"""Attention of a tree-masked row without the parts that its mask forbids, on the CPU.

A row holds subtrees that share nothing but the cache before them. One masked product over everything computes, for
each token, the keys of all other subtrees too, and throws them away: with rows of 512 tokens a third to three quarters
of the work. Here each chunk of the row attends to the cache and to itself, in one masked product: one softmax per token
over its own keys in their order, which is what a whole prompt alone computes. Two products joined by their
log-sum-exps cost the same time and were half as far again from that in the last bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

#: Name under which models find it.
TREE_ATTENTION = "tuneboard_tree"
#: Subtrees are taken together up to this many tokens: a call of the kernel costs about as much as 32 more keys.
_CHUNK = 96
#: Where products in parts are as exact as fused ones, whose kernel holds weights in float32 in any case.
_PARTED = (torch.float32, torch.float64)
#: Attention weights that are held at a time: as many as caches next to the cores hold.
_WEIGHTS = 1 << 18
#: Arguments that change the product itself; with any of them the ordinary way is taken.
_SPECIAL = ("softcap", "s_aux", "position_bias", "sliding_window")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring subtrees of a row.

    Attributes:
        queries: First query of the chunk, last query + 1.
        slots: First slot of the row whose keys they see, last slot + 1.
        mask: Additive mask over the chunk's slots, shape [1, 1, queries, slots]; the cache is seen whole.
    """

    queries: tuple[int, int]
    slots: tuple[int, int]
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where the subtrees of a row stand.

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
                chunks.append(Chunk((int(first), int(last)), chunk.slots, mask))
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
    """Join neighbouring subtrees until a chunk has enough tokens.

    Args:
        starts: First slot of each subtree, ascending, from 0.
        size: Tokens of the row.
    """
    out, first = [], 0
    for start in [*starts[1:], size]:
        if start - first >= _CHUNK or start == size:
            out.append((first, start))
            first = start
    return out


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
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _in_parts if query.dtype in _PARTED else _fused
    if attend is _fused:
        key, value = (repeat_kv(states, query.shape[1] // states.shape[1]) for states in (key, value))
    parts = []
    for chunk, keys, values in zip(layout.chunks, _seen(key, layout), _seen(value, layout), strict=True):
        parts.append(attend(query[:, :, slice(*chunk.queries)], keys, values, chunk.mask, scale))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _in_parts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attend by two matrix products and a softmax, some heads at a time; neighbouring heads may share keys.

    For a chunk, torch's fused kernel goes by blocks of 32 queries, and takes a third longer.
    """
    heads, count, width = queries.shape[1:]
    sharing, seen = keys.shape[1:3]
    grouped = (queries * scale).reshape(sharing, -1, width)
    out = values.new_empty(sharing, grouped.shape[1], values.shape[3])
    step = max(1, _WEIGHTS // (grouped.shape[1] * seen))
    for first in range(0, sharing, step):
        some = slice(first, first + step)
        weights = torch.bmm(grouped[some], keys[0, some].transpose(1, 2))
        weights.view(-1, count, seen)[..., seen - mask.shape[-1] :] += mask[0]
        torch.bmm(weights.softmax(-1), values[0, some], out=out[some])
    return out.view(1, heads, count, values.shape[3])


def _fused(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    whole = pad(mask, (keys.shape[2] - mask.shape[-1], 0))
    return scaled_dot_product_attention(queries, keys, values, attn_mask=whole, scale=scale)


def _seen(states: torch.Tensor, layout: RowLayout) -> Iterator[torch.Tensor]:
    """Yield what each chunk sees, the cached states and its own, shape [1, heads, cached + slots, dim].

    Each is valid until the next: the cached states are copied once, and the chunks take turns behind them.
    """
    depth, room = layout.depth, max(last - first for first, last in (chunk.slots for chunk in layout.chunks))
    turns: torch.Tensor | None = None
    for chunk in layout.chunks:
        first, last = chunk.slots
        if first == 0:
            yield states[:, :, : depth + last]
            continue
        if turns is None:
            turns = states.new_empty(*states.shape[:2], depth + room, states.shape[3])
            turns[:, :, :depth] = states[:, :, :depth]
        end = depth + last - first
        turns[:, :, depth:end] = states[:, :, depth + first : depth + last]
        yield turns[:, :, :end]
