"""Key-value caches: one that rows are laid behind and cut from, and one whose rows grow by a token at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class StackLayer(DynamicLayer):
    """Keys and values of one layer in a buffer that grows by doubling, and is cut back without copying.

    transformers' own layer concatenates at every call: at a 600-token prefix that copies more than it computes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.is_initialized: bool = False
        self.keys: Any = None
        self.values: Any = None
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states of shape [1, heads, new, dim]; returns all states so far, as views."""
        start, stop = self.length, self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.keys, self.values = (_buffer(states, stop) for states in (key_states, value_states))
            self.is_initialized = True
        elif stop > self.keys.shape[-2]:
            self.keys, self.values = (_grown(buffer, start, stop) for buffer in (self.keys, self.values))
        self.keys[:, :, start:stop] = key_states
        self.values[:, :, start:stop] = value_states
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_seq_length(self) -> int:
        """Return the number of cached tokens."""
        return self.length


def _buffer(states: torch.Tensor, length: int) -> torch.Tensor:
    batch, heads, _, dim = states.shape
    return states.new_empty(batch, heads, max(256, length), dim)


def _grown(buffer: torch.Tensor, used: int, length: int) -> torch.Tensor:
    batch, heads, capacity, dim = buffer.shape
    grown = buffer.new_empty(batch, heads, max(length, 2 * capacity), dim)
    grown[:, :, :used] = buffer[:, :, :used]
    return grown


class RowLayer(DynamicLayer):
    """Keys and values of one layer for many rows; each decoding step writes one token per row at its own length."""

    def __init__(self, rows: RowState) -> None:
        super().__init__()
        self.rows = rows
        self.keys: Any = None
        self.values: Any = None
        self.is_initialized = True

    def admit(self, row: int, keys: torch.Tensor, values: torch.Tensor, capacity: int) -> None:
        """Copy a prompt's states, shape [heads, length, dim], into a row."""
        heads, length, dim = keys.shape
        if self.keys is None:
            self.keys, self.values = (keys.new_zeros(self.rows.limit, heads, capacity, dim) for _ in range(2))
        elif capacity > self.keys.shape[2]:
            grow = (0, 0, 0, capacity - self.keys.shape[2])
            self.keys, self.values = (torch.nn.functional.pad(buffer, grow) for buffer in (self.keys, self.values))
        self.keys[row, :, :length], self.values[row, :, :length] = keys, values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row over another."""
        for buffer in (self.keys, self.values):
            buffer[target, :, :length] = buffer[source, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write states of shape [active rows, heads, 1, dim] and return all of the active rows' states."""
        active, lengths = self.rows.active, self.rows.lengths
        self.keys[active, :, lengths] = key_states[:, :, 0]
        self.values[active, :, lengths] = value_states[:, :, 0]
        count, width = len(active), self.rows.width
        return self.keys[:count, :, :width], self.values[:count, :, :width]

    def get_seq_length(self) -> int:
        """Return the width of the widest active row."""
        return self.rows.width - 1


@dataclass(slots=True)
class RowState:
    """What all layers of a row cache share."""

    limit: int
    active: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """0 to active rows - 1."""
    lengths: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Cached tokens of each active row."""
    width: int = 0
    """Cached tokens of the longest active row, the one being written included."""
