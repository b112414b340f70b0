"""Turns lm-eval's generation settings into per-sequence rules: how to choose the next token and when to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tuneboard.errors import EngineError

#: Stands for the next token of a sequence whose logits are not numbers.
BROKEN = -1
#: lm-eval's names for the number of new tokens, in its order of precedence.
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
#: lm-eval's default for tasks that name none.
DEFAULT_MAX_NEW_TOKENS = 256
_SUPPORTED = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "no_repeat_ngram_size")
#: Values of further settings under which they do nothing, so that they may be given.
_NEUTRAL: Mapping[str, Any] = {"num_beams": 1, "num_return_sequences": 1, "use_cache": True, "length_penalty": 1.0}


def new_tokens(settings: Mapping[str, Any]) -> int:
    """Return how many tokens a request may generate, by lm-eval's names for it and its default."""
    given = [settings[name] for name in _MAX_TOKENS if settings.get(name) is not None]
    return int(given[0]) if given else DEFAULT_MAX_NEW_TOKENS


@dataclass(frozen=True, slots=True)
class Wanted:
    """The generation settings of one request, read and checked; the same for every engine."""

    until: tuple[str, ...]
    max_new_tokens: int
    do_sample: bool
    rest: Mapping[str, Any]
    """``temperature``, ``top_k`` and the like, as given."""


def read_settings(settings: Mapping[str, Any]) -> Wanted:
    """Read lm-eval's generation settings.

    Raises:
        EngineError: A setting that no engine here can honour, such as beam search, or a value that makes no sense.
    """
    rest = dict(settings)
    until = rest.pop("until", None) or []
    max_new_tokens = new_tokens(rest)
    rest = {k: v for k, v in rest.items() if k not in _MAX_TOKENS and _NEUTRAL.get(k, _NEUTRAL) != v}
    unknown = sorted(set(rest) - set(_SUPPORTED))
    if unknown:
        raise EngineError(
            f"generation setting {unknown[0]}={rest[unknown[0]]!r} is not supported by this engine; "
            f"use {', '.join(_SUPPORTED)}, until, max_gen_toks"
        )
    if max_new_tokens < 1:
        raise EngineError(f"max_gen_toks is {max_new_tokens}; expected at least 1")
    temperature = float(rest.get("temperature") or 0.0)
    do_sample = rest.get("do_sample")
    do_sample = temperature > 0 if do_sample is None else bool(do_sample)
    if do_sample and "temperature" in rest and temperature == 0.0:
        raise EngineError("do_sample is on with temperature 0; expected a temperature above 0, or do_sample: false")
    return Wanted((until,) if isinstance(until, str) else tuple(until), max_new_tokens, do_sample, rest)


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Cut ``text`` at the first occurrence of each stop text, as lm-eval does."""
    for term in stop:
        if term:
            text = text.split(term)[0]
    return text


@dataclass(frozen=True, slots=True)
class Rules:
    """How one sequence is generated."""

    max_new_tokens: int
    stop: tuple[str, ...]
    """Texts that end the generation and are cut off, the EOS text among them."""
    end_ids: frozenset[int]
    """Tokens that end the generation."""
    window: int
    """Tokens at the end of the text within which a stop text must show up."""
    processors: tuple[Any, ...] = ()
    """transformers' logits processors, in its order."""
    do_sample: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the processors do, by lm-eval's names for it, for engines with processors of their own."""

    def finish(self, text: str) -> str:
        """Cut ``text`` at the first occurrence of each stop text, as lm-eval does."""
        return cut_at(text, self.stop)


@dataclass(slots=True)
class RuleBook:
    """Makes ``Rules`` for one model; equal settings share one object.

    Args:
        tokenizer: The model's tokenizer.
        defaults: The model's ``generation_config``.
    """

    tokenizer: Any
    defaults: Any
    _made: dict[str, Rules] = field(default_factory=dict)

    def rules(self, settings: Mapping[str, Any]) -> Rules:
        """Return the rules for the settings of one request.

        Raises:
            EngineError: A setting that this engine cannot honour, such as beam search.
        """
        key = repr(sorted(settings.items(), key=str))
        if key not in self._made:
            self._made[key] = self._make(settings)
        return self._made[key]

    def _make(self, settings: Mapping[str, Any]) -> Rules:
        wanted = read_settings(settings)
        values = self._values(wanted.rest, wanted.do_sample)
        eos = self.tokenizer.decode(self.tokenizer.eos_token_id) if self.tokenizer.eos_token_id is not None else None
        stop = (*wanted.until, eos) if eos and eos not in wanted.until else wanted.until
        return Rules(
            wanted.max_new_tokens,
            stop,
            self._end_ids(),
            max((len(term.encode()) for term in stop), default=0) + 8,
            _processors(values),
            wanted.do_sample,
            values,
        )

    def _end_ids(self) -> frozenset[int]:
        ids = getattr(self.defaults, "eos_token_id", None)
        ids = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
        own = self.tokenizer.eos_token_id
        return frozenset([*ids, own] if own is not None else ids)

    def _values(self, settings: Mapping[str, Any], do_sample: bool) -> dict[str, Any]:
        """Return what is to be done with each token's scores: as given, else as the model's own config says."""

        def setting(name: str) -> Any:
            value = settings.get(name)
            return getattr(self.defaults, name, None) if value is None else value

        found: dict[str, Any] = {}
        if (penalty := setting("repetition_penalty")) not in (None, 1.0):
            found["repetition_penalty"] = float(penalty)
        if ngram := setting("no_repeat_ngram_size"):
            found["no_repeat_ngram_size"] = int(ngram)
        if not do_sample:
            return found
        if (temperature := setting("temperature")) not in (None, 1.0):
            found["temperature"] = float(temperature)
        if top_k := (50 if setting("top_k") is None else setting("top_k")):
            found["top_k"] = int(top_k)
        if (top_p := setting("top_p")) is not None and top_p < 1.0:
            found["top_p"] = float(top_p)
        if (min_p := setting("min_p")) is not None:
            found["min_p"] = float(min_p)
        return found


def _processors(values: Mapping[str, Any]) -> tuple[Any, ...]:
    from transformers.generation import logits_process as hf

    makers = {
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": hf.NoRepeatNGramLogitsProcessor,
        "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper,
        "top_p": hf.TopPLogitsWarper,
        "min_p": hf.MinPLogitsWarper,
    }
    return tuple(makers[name](value) for name, value in values.items())


def choose(
    logits: torch.Tensor,
    rules: Sequence[Rules],
    histories: Sequence[Sequence[int]],
    generators: Sequence[torch.Generator | None],
) -> list[int]:
    """Choose the next token of each sequence; ``BROKEN`` where the logits are not numbers.

    Args:
        logits: Shape [sequences, vocabulary].
        rules: One per sequence.
        histories: Prompt and generated tokens per sequence; read only where a rule needs them.
        generators: Random state per sampled sequence, None for greedy ones.
    """
    peaks, likeliest = logits.max(dim=-1)
    chosen: list[int] = torch.where(peaks.isfinite(), likeliest, BROKEN).tolist()
    for row, rule in enumerate(rules):
        if chosen[row] == BROKEN or (not rule.processors and not rule.do_sample):
            continue
        scores = logits[row : row + 1].to(torch.promote_types(logits.dtype, torch.float32))
        history = torch.tensor([list(histories[row])], dtype=torch.long, device=logits.device)
        for processor in rule.processors:
            scores = processor(history, scores)
        if rule.do_sample:
            probabilities = torch.softmax(scores[0], dim=-1).cpu()
            chosen[row] = int(torch.multinomial(probabilities, 1, generator=generators[row]))
        else:
            chosen[row] = int(scores[0].argmax())
    return chosen
