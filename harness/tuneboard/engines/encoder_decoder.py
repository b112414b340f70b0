"""Forward passes of an encoder-decoder model: each context is encoded once, and decoders branch off its states."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from tuneboard.engines.adapted import AdaptedModel
from tuneboard.engines.tokens import Tokens
from tuneboard.errors import ModelError


@dataclass(frozen=True, slots=True)
class Decoding:
    """Decoders in the middle of their work, one per row.

    Attributes:
        hidden: The encoder's states, shape [rows, width, dim].
        mask: Which of them are tokens, shape [rows, width].
        cache: Keys and values of the decoder, those of its cross-attention included.
        logits: Scores of the next token, shape [rows, vocabulary].
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    cache: Any
    logits: torch.Tensor

    def select(self, rows: Sequence[int]) -> Decoding:
        """Return copies of some rows, any of them as often as wanted; the originals can still go on."""
        places = torch.as_tensor(rows, device=self.hidden.device)
        cache = copy.copy(self.cache)
        for name in ("self_attention_cache", "cross_attention_cache"):
            own = copy.copy(getattr(cache, name))
            own.layers = [copy.copy(layer) for layer in own.layers]
            setattr(cache, name, own)
        cache.is_updated = dict(cache.is_updated)
        cache.batch_select_indices(places)
        return Decoding(self.hidden[places], self.mask[places], cache, self.logits[places])


class EncoderDecoder:
    """The passes of one model, whose active adapter is given with each call.

    Virtual tokens come where peft puts them in training: those of prompt tuning and p-tuning before the encoder's
    input, those of prefix tuning as keys and values of the decoder's self-attention.

    Args:
        adapted: The model.

    Raises:
        ModelError: Its config does not say what its decoder starts with.
    """

    def __init__(self, adapted: AdaptedModel) -> None:
        self.model, self.device = adapted.model, adapted.device
        defaults = getattr(self.model, "generation_config", None)
        starts = (getattr(holder, "decoder_start_token_id", None) for holder in (defaults, self.model.config))
        start = next((one for one in starts if one is not None), None)
        if start is None:
            raise ModelError(f"{self.model.config.name_or_path} names no decoder_start_token_id; add it to config.json")
        self.start_id = int(start)

    @torch.inference_mode()
    def begin(self, active: Any, contexts: Sequence[Tokens]) -> Decoding:
        """Encode contexts and let their decoders read the start token.

        Args:
            active: What ``AdaptedModel.active`` yielded.
            contexts: Token ids, each of shape [length].
        """
        ids, mask = _padded(contexts, self.device)
        virtual = active if active is not self.model and active.active_peft_config.is_prompt_learning else None
        prefix = virtual is not None and virtual.active_peft_config.peft_type == "PREFIX_TUNING"
        encoder = self.model.get_encoder()
        if virtual is None or prefix:
            hidden = encoder(input_ids=ids, attention_mask=mask)[0]
        else:
            embeddings = self.model.get_input_embeddings()(ids)
            prompts = virtual.get_prompt(len(contexts))[:, : virtual.active_peft_config.num_virtual_tokens]
            mask = torch.cat([mask.new_ones(prompts.shape[:2]), mask], dim=1)
            inputs = torch.cat([prompts.to(embeddings.dtype), embeddings], dim=1)
            hidden = encoder(inputs_embeds=inputs, attention_mask=mask)[0]
        start = torch.full((len(contexts), 1), self.start_id, device=self.device)
        cache = virtual.get_prompt(len(contexts)) if virtual is not None and prefix else None
        output = self._decode(hidden, mask, cache, start)
        return Decoding(hidden, mask, output.past_key_values, output.logits[:, -1])

    @torch.inference_mode()
    def feed(self, state: Decoding, ids: Sequence[Sequence[int]]) -> tuple[Decoding, torch.Tensor]:
        """Let decoders read on; shorter rows are padded behind their end, where their logits mean nothing.

        Args:
            state: Used up by this.
            ids: Tokens of each row.

        Returns:
            The decoders after the last token, and the logits after each, shape [rows, longest, vocabulary].
        """
        tokens, _ = _padded([np.asarray(row) for row in ids], self.device)
        output = self._decode(state.hidden, state.mask, state.cache, tokens)
        return Decoding(state.hidden, state.mask, output.past_key_values, output.logits[:, -1]), output.logits

    def _decode(self, hidden: torch.Tensor, mask: torch.Tensor, cache: Any, ids: torch.Tensor) -> Any:
        return self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            decoder_input_ids=ids,
            past_key_values=cache,
            use_cache=True,
        )


def _padded(rows: Sequence[Tokens], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack token ids, padded on the right: models that count positions from the left must not see padding there."""
    width = max(len(row) for row in rows)
    ids, mask = np.zeros((len(rows), width), dtype=np.int64), np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
