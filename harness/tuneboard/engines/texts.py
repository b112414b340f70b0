"""Texts and pairs of texts to padded model input, for models that read a text as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from tuneboard.errors import EngineError

#: Texts per call of the tokenizer: enough for its threads, few enough to keep lists of Python ints small.
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One input without padding.

    Attributes:
        fields: Arguments of the model, such as ``input_ids`` and ``token_type_ids``, each of shape [length].
        truncated: Whether tokens were cut off to fit the context.
    """

    fields: Mapping[str, list[int]]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.fields["input_ids"])


class TextEncoder:
    """Encodes with one tokenizer, cutting as training does: by the tokenizer's own rules, on its own side.

    Args:
        tokenizer: A transformers tokenizer.
        model: Says which of the tokenizer's fields it takes.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.tokenizer = tokenizer
        self._accepted = signature(model.forward).parameters.keys()
        self._padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id or 0}

    def encode(self, texts: Sequence[tuple[str, ...]], room: int) -> list[EncodedText | None]:
        """Encode texts (tuples of one) and pairs (tuples of two).

        Args:
            texts: What to encode.
            room: Most tokens of one input.

        Returns:
            One input per text; None where the tokenizer cannot read it.

        Raises:
            EngineError: A text must be cut and not a token of it would be left.
        """
        out: list[EncodedText | None] = [None] * len(texts)
        for size in (1, 2):
            places = [place for place, text in enumerate(texts) if len(text) == size]
            for start in range(0, len(places), _CHUNK):
                part = places[start : start + _CHUNK]
                for place, made in zip(part, self._encode([texts[place] for place in part], room), strict=True):
                    out[place] = made
        return out

    def pad(self, rows: Sequence[EncodedText], device: torch.device) -> dict[str, torch.Tensor]:
        """Stack inputs, padded on the right, with their attention mask; each of shape [rows, longest]."""
        width = max(len(row) for row in rows)
        out = {}
        for name in rows[0].fields:
            filler = self._padding.get(name, 0)
            out[name] = torch.tensor([[*row.fields[name], *[filler] * (width - len(row))] for row in rows])
        out["attention_mask"] = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {name: tensor.to(device) for name, tensor in out.items()}

    def _encode(self, texts: list[tuple[str, ...]], room: int) -> list[EncodedText | None]:
        columns = [list(column) for column in zip(*texts, strict=True)]
        try:
            whole = self.tokenizer(*columns, return_attention_mask=False, verbose=False)
        except (TypeError, UnicodeError):
            # One half of a surrogate pair in one text; the others are fine.
            return [None] if len(texts) == 1 else [one for text in texts for one in self._encode([text], room)]
        names = [name for name in whole if name in self._accepted]
        return [
            EncodedText({name: whole[name][place] for name in names})
            if len(whole["input_ids"][place]) <= room
            else self._cut(text, room, names)
            for place, text in enumerate(texts)
        ]

    def _cut(self, text: tuple[str, ...], room: int, names: Sequence[str]) -> EncodedText:
        least = self.tokenizer.num_special_tokens_to_add(pair=len(text) == 2) + len(text)
        if room < least:
            raise EngineError(f"the context holds {room} tokens and a text needs {least}; give a larger --max-length")
        made = self.tokenizer(*text, truncation=True, max_length=room, return_attention_mask=False)
        return EncodedText({name: made[name] for name in names}, truncated=True)


def positions(model: Any, limit: int) -> int:
    """Return how many tokens fit a model that counts its positions from behind the padding token, as RoBERTa does.

    Args:
        model: Any model.
        limit: Context length that its config and tokenizer name, at most.
    """
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limit = min(limit, module.num_embeddings - first)
    return limit
