"""Leaves out of the last decoder layer what nobody reads.

Only the scored positions of a row go on from the last layer to the LM head; of all others it owes the cache their keys
and values, and nothing else. So it runs twice: over the whole row, until it has stored keys and values, and over the
scored positions alone, to its end. Of an 8-layer model that saves a tenth where one token of a question is scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any

import torch

#: Above this share of scored positions a second run costs more than it saves.
_MOST_SCORED = 0.7


class _KeysStored(Exception):
    """Ends the first run."""


class _CacheView:
    """A cache that ends the first run at its update, and gives the second one what was stored."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._states: Any = None

    def update(self, *args: Any, **kwargs: Any) -> Any:
        if self._states is None:
            self._states = self._cache.update(*args, **kwargs)
            raise _KeysStored
        return self._states

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


_kept: ContextVar[torch.Tensor | None] = ContextVar("kept_positions", default=None)


@contextmanager
def only(kept: torch.Tensor | None) -> Iterator[None]:
    """Within it, trimmed models return the hidden states of the positions ``kept`` alone, shape [kept]; None: all."""
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)


def pays(kept: int, row: int) -> bool:
    """Say whether a second run over ``kept`` of ``row`` positions costs less than it saves."""
    return kept <= _MOST_SCORED * row


class LastLayer:
    """The last decoder layer of a model, with its forward pass replaced.

    Args:
        model: A transformers causal LM.

    Attributes:
        found: False where the model does not keep its decoder layers in one list; then nothing was replaced.
    """

    def __init__(self, model: Any) -> None:
        config = getattr(model.config, "text_config", None) or model.config
        depth = getattr(config, "num_hidden_layers", 0)
        stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
        self.found = len(stacks) == 1 and depth > 0
        if self.found:
            self._layer: Any = stacks[0][-1]
            self._layer.forward = MethodType(_forward, self._layer)

    def restore(self) -> None:
        """Give the layer its own forward pass back."""
        if self.found:
            del self._layer.forward
        self.found = False


def _forward(layer: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    run, kept, cache = type(layer).forward, _kept.get(), kwargs.get("past_key_values")
    if kept is None or cache is None:
        return run(layer, hidden_states, *args, **kwargs)
    row = hidden_states.shape[1]
    kwargs["past_key_values"] = _CacheView(cache)
    try:
        whole = run(layer, hidden_states, *args, **kwargs)
    except _KeysStored:
        args = tuple(_rows(value, kept, row) for value in args)
        kwargs = {name: _rows(value, kept, row) for name, value in kwargs.items()}
        return run(layer, hidden_states[:, kept], *args, **kwargs)
    return _rows(whole, kept, row)  # A layer that borrows the keys of another one stores none.


def _rows(value: Any, kept: torch.Tensor, row: int) -> Any:
    """Take the kept positions of whatever has one entry per position of the row."""
    if isinstance(value, tuple):
        return tuple(_rows(one, kept, row) for one in value)
    if isinstance(value, dict):
        return {name: _rows(one, kept, row) for name, one in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    if value.ndim == 4 and value.shape[2] == row:  # attention mask: [1, 1, row, keys]
        return value[:, :, kept]
    if value.ndim >= 2 and value.shape[1] == row:  # [1, row], [1, row, width]
        return value[:, kept]
    return value
