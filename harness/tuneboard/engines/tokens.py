"""Text to tokens, by the same rules as lm-eval's ``hf`` model, so that every engine scores the same positions.

The rules (checked against lm-eval 0.4.13, ``api/model.py`` and ``models/huggingface.py``):

- trailing spaces of a context move to its continuation, and the continuation's tokens are what the encoding of both
  has beyond the length of the context's own encoding;
- an empty context is the BOS token (EOS where there is none);
- a text that already starts with the BOS text gets no second one;
- log-likelihood inputs keep the last ``max_length + 1`` tokens, the last of which is only predicted;
- a prompt for generation keeps the last ``max_length - max_new_tokens`` tokens; where that is none, half the context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneboard.errors import EngineError, ModelError

Tokens = npt.NDArray[np.int32]

#: Texts per call of the tokenizer: enough for its threads, few enough to keep lists of Python ints small.
_CHUNK = 2048
#: lm-eval's context length for models that state none.
_DEFAULT_MAX_LENGTH = 2048
#: transformers' "no limit" for a tokenizer.
_UNLIMITED = 1_000_000_000_000_000_019_884_624_838_656


@dataclass(frozen=True, slots=True)
class ScoredSequence:
    """Tokens to feed and the tokens to score after them.

    Attributes:
        tokens: Model input, shape [length].
        targets: Tokens whose log-probabilities are summed, shape [n <= length]; they are predicted by the last ``n``
            positions of the input.
        truncated: Whether tokens were cut on the left.
    """

    tokens: Tokens
    targets: Tokens
    truncated: bool = False


class Encoder:
    """Encodes requests with one tokenizer.

    Args:
        tokenizer: A transformers tokenizer.
        max_length: Context length of the model in tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        if bos is None and eos is None:
            raise EngineError("the tokenizer has neither a BOS nor an EOS token; set one in tokenizer_config.json")
        self.prefix_id: int = bos if bos is not None else eos
        self._prefix_text: str = tokenizer.decode(self.prefix_id)
        self._known: dict[str, Tokens] = {}

    def warm(self, texts: Iterable[str]) -> None:
        """Encode many texts at once, on all cores, and remember them until ``forget``."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        with_bos = [text for text in new if text.startswith(self._prefix_text)]
        plain = [text for text in new if not text.startswith(self._prefix_text)] if with_bos else new
        for group, options in ((plain, {}), (with_bos, {"add_special_tokens": False})):
            for start in range(0, len(group), _CHUNK):
                self._warm(group[start : start + _CHUNK], options)

    def forget(self) -> None:
        """Drop remembered encodings."""
        self._known.clear()

    def encode(self, text: str) -> Tokens:
        """Return the tokens of one text.

        Raises:
            EngineError: It is not valid Unicode.
        """
        if text not in self._known:
            self.warm([text])
        if text not in self._known:
            raise EngineError(f"the tokenizer cannot read {text[:40]!r}; expected valid Unicode")
        return self._known[text]

    def _warm(self, texts: list[str], options: dict[str, bool]) -> None:
        try:
            ids = self.tokenizer(texts, return_attention_mask=False, **options)["input_ids"]
        except (TypeError, UnicodeError):
            # One half of a surrogate pair in one text; the others are fine.
            for text in texts if len(texts) > 1 else ():
                self._warm([text], options)
            return
        self._known.update((text, np.asarray(row, dtype=np.int32)) for text, row in zip(texts, ids, strict=True))

    def texts(self, kind: str, arguments: Sequence[Any]) -> list[str]:
        """Return the texts whose encodings a request needs, for ``warm``."""
        if kind != "loglikelihood":
            return [arguments[0]]
        context, continuation = move_spaces(*arguments)
        return [context, context + continuation] if context else []

    def pair(self, context: str, continuation: str) -> ScoredSequence:
        """Encode a log-likelihood request.

        Raises:
            EngineError: The continuation has no token of its own, or is longer than the context length.
        """
        if context == "":
            targets = np.asarray(self.tokenizer.encode(continuation, add_special_tokens=False), dtype=np.int32)
            before = np.asarray([self.prefix_id], dtype=np.int32)
            if len(targets) and targets[0] == self.prefix_id:
                before, targets = targets[:1], targets[1:]
        else:
            context, continuation = move_spaces(context, continuation)
            before = self.encode(context)
            targets = self.encode(context + continuation)[len(before) :]
            if len(before) == 0:
                # A context of spaces only, to a tokenizer that adds no BOS; lm-eval gives up on it.
                before = np.asarray([self.prefix_id], dtype=np.int32)
        return self._cut(before, targets, continuation)

    def windows(self, text: str) -> list[ScoredSequence]:
        """Cut a text into windows that predict every token exactly once, with as much context as fits."""
        ids, size = self.encode(text), self.max_length
        out = []
        for start in range(0, len(ids), size):
            stop = min(start + size, len(ids))
            if start == 0:
                tokens = np.concatenate([np.asarray([self.prefix_id], dtype=np.int32), ids[: stop - 1]])
            else:
                tokens = ids[stop - size - 1 : stop - 1]
            out.append(ScoredSequence(tokens, ids[start:stop]))
        return out

    def sequences(self, kind: str, arguments: Sequence[Any]) -> list[ScoredSequence]:
        """Encode a log-likelihood request, rolling or not, into what is to be scored for it.

        Raises:
            EngineError: As for ``pair`` and ``encode``.
        """
        return self.windows(arguments[0]) if kind == "loglikelihood_rolling" else [self.pair(*arguments)]

    def prompt(self, context: str, max_new_tokens: int) -> tuple[Tokens, int, bool]:
        """Encode a prompt for generation.

        Where the new tokens alone would fill the context (lm-eval's ``hf`` refuses this), the prompt keeps up to half
        of it and the generation gets the rest.

        Returns:
            The tokens, how many may be generated after them, and whether anything was cut.

        Raises:
            EngineError: The context has no room for a prompt and a new token.
        """
        if self.max_length < 2:
            raise EngineError("the context holds 1 token: no prompt and new token fit")
        ids = self.encode(context)
        if len(ids) == 0:
            ids = np.asarray([self.prefix_id], dtype=np.int32)
        room = self.max_length - max_new_tokens
        if room > 0:
            return ids[-room:], max_new_tokens, len(ids) > room
        kept = ids[-(self.max_length // 2) :]
        return kept, min(max_new_tokens, self.max_length - len(kept)), True

    def _cut(self, before: Tokens, targets: Tokens, continuation: str) -> ScoredSequence:
        if len(targets) == 0:
            raise EngineError(f"the continuation {continuation[:40]!r} has no token of its own after its context")
        if len(targets) > self.max_length:
            raise EngineError(
                f"the continuation {continuation[:40]!r} has {len(targets)} tokens; the context holds {self.max_length}"
            )
        whole = np.concatenate([before, targets])
        truncated = len(whole) > self.max_length + 1
        return ScoredSequence(whole[-(self.max_length + 1) :][:-1], targets, truncated)


def context_length(config: Any, tokenizer: Any) -> int:
    """Return the model's context length in tokens, looked up in the order that lm-eval uses."""
    text_config = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(text_config, name, None)
        if value is not None:
            return int(value)
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < _UNLIMITED else _DEFAULT_MAX_LENGTH


def check_room(model: str, tokenizer: Any, max_length: int) -> None:
    """Refuse a context that a tokenizer's own marks around a text, such as EOS or [CLS], fill.

    Args:
        model: Named in the error.
        tokenizer: Of a model that reads a text as a whole, marks included.
        max_length: Context length in tokens.

    Raises:
        ModelError: No token of any text would be left.
    """
    marks = tokenizer.num_special_tokens_to_add()
    if max_length <= marks:
        raise ModelError(
            f"the context of {model} is to hold {max_length} tokens, and its tokenizer puts {marks} of its own around "
            f"every text: nothing of the text is left; give --max-length {marks + 1} or more"
        )


def distinct_prefixes(sequences: Iterable[Tokens]) -> int:
    """Count the nodes of the prefix tree of ``sequences``: the fewest tokens that must go through a model."""
    ordered = sorted(sequences, key=sort_key)
    return sum(len(b) - lcp for b, lcp in _with_lcp(ordered))


def sort_key(tokens: Tokens) -> bytes:
    """Return bytes that order like the token sequences themselves."""
    return tokens.astype(">u4").tobytes()


def common_prefix(a: Tokens, b: Tokens) -> int:
    """Return the length of the longest common prefix of two sequences."""
    n = min(len(a), len(b))
    differs = a[:n] != b[:n]
    at = int(differs.argmax()) if n else 0
    return at if n and differs[at] else n


def _with_lcp(ordered: Sequence[Tokens]) -> Iterator[tuple[Tokens, int]]:
    before: Tokens = np.empty(0, dtype=np.int32)
    for tokens in ordered:
        yield tokens, common_prefix(before, tokens)
        before = tokens


def move_spaces(context: str, continuation: str) -> tuple[str, str]:
    """Move the trailing spaces of a context to its continuation."""
    spaces = len(context) - len(context.rstrip())
    return (context[:-spaces], context[-spaces:] + continuation) if spaces else (context, continuation)
