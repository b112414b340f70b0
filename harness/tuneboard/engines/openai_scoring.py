"""Log-likelihoods from a server that gives the log-probabilities of its prompt's own tokens.

Two forms are known: vLLM's ``prompt_logprobs``, and ``echo`` with ``logprobs``, as OpenAI's completions once had it.
With a tokenizer at hand, tokens are sent and scored at the positions where the other engines score them. Without one
the server's own tokens tell where the continuation begins, by lm-eval's rule: it is what the encoding of both has
beyond the length of the context's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from tuneboard.engines.accounting import OpenScore
from tuneboard.engines.json_server import JsonServer, ServerError
from tuneboard.engines.openai_writing import COMPLETIONS, first_choice, token_count
from tuneboard.engines.protocol import Answer, Work
from tuneboard.engines.served import messages_of
from tuneboard.engines.tokens import Encoder, ScoredSequence, move_spaces
from tuneboard.errors import EngineError
from tuneboard.records import TokenCount

Form = Literal["prompt_logprobs", "echo"]
_PROBE = "The capital of France is Paris"
_ASKED: Mapping[Form, Mapping[str, Any]] = {
    "prompt_logprobs": {"prompt_logprobs": 1},
    "echo": {"echo": True, "logprobs": 1},
}


@dataclass(frozen=True, slots=True)
class PromptToken:
    """One token of a prompt, as the server scored it."""

    text: str
    logprob: float | None
    """None for the first, which nothing predicts."""
    likeliest: bool
    id: str = ""
    """Empty where the server does not tell."""


class Scorer:
    """Asks a server for log-likelihoods; may be called from many threads once its encodings are warm.

    Args:
        server: Where to ask.
        encoder: Of the served model's tokenizer; None leaves tokens to the server.
    """

    def __init__(self, server: JsonServer, encoder: Encoder | None) -> None:
        self.server, self.encoder = server, encoder
        self._form: Form | None = None
        self._lengths: dict[tuple[str, str], int] = {}

    def prepare(self, model: str) -> None:
        """Find out in which form the server gives log-probabilities.

        Raises:
            EngineError: In none.
        """
        said = ""
        for form in _ASKED if self._form is None else ():
            self._form = form
            try:
                tokens, _ = self._read(model, _PROBE)
            except ServerError as error:
                if error.hopeless or error.status is None:
                    raise
                said = f"; {error}"
            except EngineError:
                pass
            else:
                if len(tokens) > 2 and all(token.logprob is not None for token in tokens[1:]):
                    return
            self._form = None
        if self._form is None:
            raise EngineError(
                f"{self.server.url} gives no log-probabilities of its prompts, which this task needs (vLLM's "
                "prompt_logprobs, or echo with logprobs); evaluate tasks that write texts there, or the weights "
                f"themselves with another --engine{said}"
            )

    def score(self, model: str, item: Work) -> Answer:
        """Answer one log-likelihood request.

        Args:
            model: Name on the server.
            item: Rolling or not.

        Raises:
            EngineError: It cannot be scored, or the server refuses it.
        """
        if messages_of(str(item.arguments[0])) is not None:
            raise EngineError(
                "a server gives no log-probabilities of an answer in a chat; leave --apply-chat-template out, or "
                "evaluate the weights themselves with another --engine"
            )
        if self.encoder is not None:
            return self._score_tokens(model, item, self.encoder.sequences(item.kind, item.arguments))
        if item.kind == "loglikelihood_rolling" or not item.arguments[0]:
            what = "a whole text" if item.kind == "loglikelihood_rolling" else "a continuation of nothing"
            raise EngineError(f"{what} is scored from the BOS token on, which needs --tokenizer: name the model's own")
        return self._score_text(model, item)

    def _score_tokens(self, model: str, item: Work, parts: Sequence[ScoredSequence]) -> Answer:
        score = OpenScore(len(parts), sum(part.truncated for part in parts))
        if not parts:
            return Answer(item.id, 0.0)
        for part in parts:
            prompt = [*part.tokens.tolist(), int(part.targets[-1])]
            tokens, count = self._read(model, prompt)
            wrong = any(token.id not in ("", str(sent)) for token, sent in zip(tokens, prompt, strict=False))
            if wrong or len(tokens) != len(prompt):
                raise EngineError(
                    f"{self.server.url} scores other tokens than the {len(prompt)} that were sent; is --tokenizer that "
                    "of the model?"
                )
            score.add(*_sum(tokens[len(tokens) - len(part.targets) :]), count)
        return score.answer(item)

    def _score_text(self, model: str, item: Work) -> Answer:
        context, continuation = move_spaces(*item.arguments)
        tokens, count = self._read(model, context + continuation)
        start = _boundary(tokens, context, continuation)
        if start is None:
            key = (model, context)
            if key not in self._lengths:
                before, more = self._read(model, context)
                self._lengths[key] = len(before)
                count += more
            start = self._lengths[key]
        if not 0 < start < len(tokens):
            raise EngineError(f"the continuation {continuation[:40]!r} has no token of its own after its context")
        score = OpenScore(1, 0)
        score.add(*_sum(tokens[start:]), count)
        return score.answer(item)

    def _read(self, model: str, prompt: str | list[int]) -> tuple[list[PromptToken], TokenCount]:
        """Return the prompt's tokens with their log-probabilities."""
        assert self._form is not None
        # One token is asked for, since not every server takes 0; it is cut off.
        body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, **_ASKED[self._form]}
        found = self.server.post(COMPLETIONS, body)
        choice = first_choice(self.server.url, found)
        try:
            if self._form == "echo":
                tokens = _echoed(choice["logprobs"], _prompt_tokens(found))
            else:
                tokens = [_listed(row) for row in choice["prompt_logprobs"]]
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise EngineError(f"{self.server.url} answers without the log-probabilities of the prompt") from error
        return tokens, token_count(found)


def _sum(tokens: Sequence[PromptToken]) -> tuple[float, bool]:
    if any(token.logprob is None for token in tokens):
        raise EngineError("the server left out the log-probability of a token")
    return math.fsum(token.logprob or 0.0 for token in tokens), all(token.likeliest for token in tokens)


def _boundary(tokens: Sequence[PromptToken], context: str, continuation: str) -> int | None:
    """Return the index of the continuation's first token; None where no token begins there, or texts do not add up."""
    whole = "".join(token.text for token in tokens)
    if not whole.endswith(context + continuation):
        return None
    # A BOS token may stand before the text.
    start = len(whole) - len(continuation)
    ends = list(accumulate(len(token.text) for token in tokens))
    return ends.index(start) + 1 if start in ends else None


def _prompt_tokens(found: Any) -> int | None:
    usage = found.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def _echoed(logprobs: Mapping[str, Any], count: int | None) -> list[PromptToken]:
    """Read the form of ``echo``: parallel lists, the generated token last."""
    texts, values, tops = logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]
    size = len(texts) - 1 if count is None else count
    rows = list(zip(texts, values, tops, strict=True))[:size]
    return [
        PromptToken(str(text), _finite(value), value is not None and bool(top) and value >= max(top.values()))
        for text, value, top in rows
    ]


def _listed(row: Mapping[str, Any] | None) -> PromptToken:
    """Read a row of ``prompt_logprobs``: the prompt's own token stands first, then the likeliest if that is another."""
    if row is None:
        return PromptToken("", None, False)
    token, entry = next(iter(row.items()))
    return PromptToken(str(entry.get("decoded_token") or ""), _finite(entry["logprob"]), entry["rank"] == 1, token)


def _finite(value: Any) -> float | None:
    return None if value is None else float(value)
