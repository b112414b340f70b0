"""One forward pass of a Hugging Face causal LM over a row of tree-masked tokens behind a shared key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache

from tuneboard.engines.attention import additive, install, laid_out, lay_out_row
from tuneboard.engines.caches import StackLayer
from tuneboard.engines.last_layer import LastLayer, only, pays
from tuneboard.engines.tokens import Tokens
from tuneboard.engines.virtual import VirtualTokens

#: Kinds of layers whose masks are made here.
_MASKED = frozenset({"full_attention", "sliding_attention"})
#: Where configs keep localities of attention other than the sliding window that is masked here.
_OTHER_WINDOWS = (
    "window_size",
    "attention_window",
    "attention_window_size",
    "local_window_size",
    "attention_chunk_size",
)


class TreeModel:
    """A causal LM that scores tree-masked rows.

    Args:
        model: A transformers causal LM in evaluation mode (its layers may carry adapters).

    Attributes:
        masks_all_layers: False where the config tells of layers that look back in a way the masks do not reproduce;
            short sequences would not show it.
        by_chunk: Whether rows attend chunk by chunk.
        root: Virtual tokens at the start of the cache, before all real ones.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = next(model.parameters()).device
        self.dtype: torch.dtype = model.get_input_embeddings().weight.dtype
        if not self.dtype.is_floating_point:
            self.dtype = torch.float32
        self._keeps_rows = "logits_to_keep" in inspect.signature(model.forward).parameters
        text_config = getattr(model.config, "text_config", None) or model.config
        window = getattr(text_config, "sliding_window", None)
        layer_types = getattr(text_config, "layer_types", None) or ()
        self._window: int | None = window if window and getattr(text_config, "use_sliding_window", True) else None
        self._window_by_layer = "sliding_attention" in layer_types
        if layer_types and not self._window_by_layer:
            self._window = None
        self.masks_all_layers: bool = set(layer_types) <= _MASKED and not any(
            getattr(text_config, name, None) for name in _OTHER_WINDOWS
        )
        self.by_chunk = self._window is None and install(model)
        self._last = LastLayer(model)
        self.cache = self.new_cache()
        self.root = 0

    def new_cache(self) -> Cache:
        """Return an empty cache whose layers are cut back without copying."""
        return Cache(layer_class_to_replicate=StackLayer)

    @property
    def trims(self) -> bool:
        """Whether the last layer leaves out what nobody reads."""
        return self._last.found

    def stop_trimming(self) -> None:
        """Compute the last layer in full from now on."""
        self._last.restore()

    @property
    def depth(self) -> int:
        """Real tokens in the cache."""
        return int(self.cache.get_seq_length()) - self.root

    def crop(self, depth: int) -> None:
        """Cut the cache back to its first ``depth`` real tokens, in every layer, even after a pass that broke off."""
        for layer in self.cache.layers:
            layer.length = min(layer.length, self.root + depth)

    @torch.inference_mode()
    def plant(self, virtual: VirtualTokens | None) -> None:
        """Empty the cache and put an adapter's virtual tokens at its root, where they stay; None: nothing."""
        self.root = 0
        self.crop(0)
        if virtual is None:
            return
        if virtual.embeddings is None:
            for index, (keys, values) in enumerate(virtual.states()):
                self.cache.update(keys.to(self.device, self.dtype), values.to(self.device, self.dtype), index)
        else:
            positions = np.arange(virtual.count)
            self.model(
                inputs_embeds=virtual.embeddings,
                position_ids=torch.from_numpy(positions).to(self.device)[None],
                attention_mask=self._masks(positions, np.tri(virtual.count, dtype=np.bool_), 0),
                past_key_values=self.cache,
                use_cache=True,
                **({"logits_to_keep": 1} if self._keeps_rows else {}),
            )
        self.root = virtual.count

    @torch.inference_mode()
    def forward(
        self,
        tokens: Tokens,
        positions: Tokens,
        allowed: npt.NDArray[np.bool_] | None,
        keep: npt.NDArray[np.int64],
        starts: Sequence[int] = (0,),
    ) -> torch.Tensor:
        """Append a row to the cache and return logits.

        Args:
            tokens: Shape [row].
            positions: Position of each token among the real tokens of its sequence, shape [row].
            allowed: Tree mask among the row's tokens, shape [row, row]; None for one plain sequence. All of them
                attend to everything that was cached before, the root included.
            keep: Slots of the row whose logits are wanted, shape [kept]; may be empty.
            starts: First slot of each sequence's own tokens.

        Returns:
            Logits, shape [kept, vocabulary].
        """
        cached, places = self.root + self.depth, self.root + positions.astype(np.int64)
        inside = np.tri(len(tokens), dtype=np.bool_) if allowed is None else allowed
        rows = np.asarray(keep if len(keep) else [len(tokens) - 1], dtype=np.int64)
        wanted = torch.from_numpy(rows).to(self.device)
        trims = self.trims and pays(len(rows), len(tokens))
        options = {"logits_to_keep": 0 if trims else wanted} if self._keeps_rows else {}
        layouts = [lay_out_row(inside, cached, starts, self.dtype)] if self.by_chunk else []
        layouts += [layout.only(rows) for layout in layouts if trims]
        with laid_out(*layouts), only(wanted if trims else None):
            output = self.model(
                input_ids=torch.from_numpy(tokens.astype(np.int64)).to(self.device)[None],
                position_ids=torch.from_numpy(places).to(self.device)[None],
                attention_mask=self._masks(places, inside, cached),
                past_key_values=self.cache,
                use_cache=True,
                **options,
            )
        logits: torch.Tensor = output.logits[0] if self._keeps_rows or trims else output.logits[0, wanted]
        return logits if len(keep) else logits[:0]

    def row_masks(self, lengths: torch.Tensor, width: int) -> Any:
        """Return masks for one decoding step of many rows.

        Args:
            lengths: Cached tokens of each row, which is also the position of its new token, shape [rows]; both count
                the root.
            width: Tokens to mask over, the root included.
        """
        places = np.arange(width)[None, :]
        ends = lengths.numpy()[:, None]
        full = places <= ends
        return self._by_layer(full, full if self._window is None else full & (ends - places < self._window), 1)

    def _masks(self, places: npt.NDArray[np.int64], inside: npt.NDArray[np.bool_], cached: int) -> Any:
        full = np.concatenate([np.ones((len(places), cached), dtype=np.bool_), inside], axis=1)
        near = full
        if self._window is not None:
            key_places = np.concatenate([np.arange(cached), places])
            near = full & (places[:, None] - key_places[None, :] < self._window)
        return self._by_layer(full, near, 0)

    def _by_layer(self, full: npt.NDArray[np.bool_], near: npt.NDArray[np.bool_], axis: int) -> Any:
        """Shape [queries, keys] masks for the model's layers; ``axis`` 0 is one row of queries, 1 one query a row."""
        if not self._window_by_layer:
            return self._additive(near, axis)
        return {"full_attention": self._additive(full, axis), "sliding_attention": self._additive(near, axis)}

    def _additive(self, allowed: npt.NDArray[np.bool_], axis: int) -> torch.Tensor:
        mask = additive(allowed, self.dtype).to(self.device)
        return mask[:, None, None] if axis else mask[None, None]
