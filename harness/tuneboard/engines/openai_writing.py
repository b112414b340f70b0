"""Texts from an OpenAI-compatible server: completions, or chats where those are asked for or nothing else is there."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from tuneboard.engines.json_server import JsonServer, ServerError
from tuneboard.engines.protocol import Answer, Notice, Work
from tuneboard.engines.sampling import Wanted, cut_at, read_settings
from tuneboard.engines.served import messages_of
from tuneboard.engines.tokens import Encoder
from tuneboard.errors import EngineError
from tuneboard.records import TokenCount

COMPLETIONS, CHATS = "/completions", "/chat/completions"
#: What a request can do without, since stop texts are cut off here too; with what is lost by it.
_SPARE = {"stop": "texts are cut at their stop texts here, after more was written", "seed": "sampling has no seed"}
_NO_SUCH_PLACE = (404, 405, 501)
_REFUSED = (400, 422)
#: Seeds are drawn from 48 bits, and servers take 31 of them.
_SEEDS = 2**31


class Writer:
    """Asks a server for texts; may be called from many threads once its encodings are warm.

    Args:
        server: Where to ask.
        encoder: Cuts prompts to the context as the other engines do and sends tokens; None sends the text as it is.
        notice: Told what the server cannot do.
    """

    def __init__(self, server: JsonServer, encoder: Encoder | None, notice: Notice) -> None:
        self.server, self.encoder, self.notice = server, encoder, notice
        self.only_chats = False
        """Whether the server has turned out to have no completions."""
        self._limit = "max_tokens"
        self._without: set[str] = set()
        self._lock = threading.Lock()

    def write(self, model: str, item: Work) -> Answer:
        """Answer one request for a text.

        Args:
            model: Name on the server.
            item: With a context and generation settings.

        Raises:
            EngineError: A setting that the server has no name for, or a request that it refuses.
        """
        context, wanted = str(item.arguments[0]), read_settings(item.arguments[1])
        settings = _settings(model, wanted, item.seed)
        messages = messages_of(context)
        if messages is not None:
            return self._answer(item, wanted, self._post(CHATS, settings | _chat(messages)))
        prompt: Any = context
        truncated = 0
        if self.encoder is not None:
            tokens, room, cut = self.encoder.prompt(context, wanted.max_new_tokens)
            prompt, truncated, settings["max_tokens"] = tokens.tolist(), int(cut), room
        if not self.only_chats:
            try:
                return self._answer(item, wanted, self._post(COMPLETIONS, settings | {"prompt": prompt}), truncated)
            except ServerError as error:
                if error.status not in _NO_SUCH_PLACE:
                    raise
                missing = error
        settings["max_tokens"] = wanted.max_new_tokens
        try:
            found = self._post(CHATS, settings | _chat([{"role": "user", "content": context}]))
        except ServerError as error:
            raise error if self.only_chats else missing from None
        self._now_only_chats()
        return self._answer(item, wanted, found)

    def _now_only_chats(self) -> None:
        with self._lock:
            first, self.only_chats = not self.only_chats, True
        if first:
            self.notice(
                f"{self.server.url} has no completions: each prompt goes as one chat message, which the server wraps "
                "in its chat template"
            )

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        while True:
            kept = {key: value for key, value in body.items() if key not in self._without}
            kept[self._limit] = kept.pop("max_tokens")
            try:
                return self.server.post(path, kept)
            except ServerError as error:
                if error.status not in _REFUSED or not self._give_way(str(error), kept):
                    raise

    def _give_way(self, message: str, sent: Mapping[str, Any]) -> bool:
        """Do from now on without what the server refuses by name; returns whether there is anything."""
        if "max_completion_tokens" in message and "max_tokens" in sent:
            self._limit = "max_completion_tokens"
            return True
        for name, loss in _SPARE.items():
            if name in sent and re.search(rf"\b{name}\b", message):
                with self._lock:
                    first = name not in self._without
                    self._without.add(name)
                if first:
                    self.notice(f"{self.server.url} refuses '{name}': {loss}")
                return True
        return False

    def _answer(self, item: Work, wanted: Wanted, found: Any, truncated: int = 0) -> Answer:
        choice = first_choice(self.server.url, found)
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        tokens = token_count(found, truncated)
        if not isinstance(text, str):
            why = choice.get("finish_reason") or "no reason given"
            return Answer(item.id, None, f"{self.server.url} answers without a text ({why})", tokens)
        return Answer(item.id, cut_at(text, wanted.until), tokens=tokens)


def first_choice(url: str, found: Any) -> dict[str, Any]:
    """Return the only choice of an answer.

    Raises:
        EngineError: The answer has none.
    """
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineError(f"{url} answers in no form of OpenAI's: it has no choices")
    return choices[0]


def token_count(found: Any, truncated: int = 0) -> TokenCount:
    """Return the tokens that a server says it handled; none where it says nothing.

    How many distinct prefixes all requests have is not known here: ``distinct`` stays 0.
    """
    usage = found.get("usage") if isinstance(found, dict) else None
    if not isinstance(usage, dict):
        return TokenCount(truncated=truncated)
    details = usage.get("prompt_tokens_details")
    cached = _number(details.get("cached_tokens")) if isinstance(details, dict) else 0
    asked = _number(usage.get("prompt_tokens")) + _number(usage.get("completion_tokens"))
    return TokenCount(computed=asked - cached, reused=cached, truncated=truncated)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _chat(messages: list[dict[str, str]]) -> dict[str, Any]:
    if messages[-1]["role"] != "assistant":
        return {"messages": messages}
    # The beginning of an answer: the model goes on from there, where the server knows how (vLLM does).
    return {"messages": messages, "add_generation_prompt": False, "continue_final_message": True}


def _settings(model: str, wanted: Wanted, seed: int) -> dict[str, Any]:
    """Translate generation settings; those beyond OpenAI's are vLLM's names, and sent only where they are given."""
    rest = {key: value for key, value in wanted.rest.items() if value is not None}
    if rest.pop("no_repeat_ngram_size", 0):
        raise EngineError("no_repeat_ngram_size is not known to OpenAI-compatible servers; leave it out")
    body: dict[str, Any] = {"model": model, "max_tokens": wanted.max_new_tokens, "temperature": 0.0}
    if "repetition_penalty" in rest:
        body["repetition_penalty"] = float(rest["repetition_penalty"])
    if stops := [text for text in wanted.until if text]:
        body["stop"] = stops
    if wanted.do_sample:
        body |= {"temperature": float(rest.get("temperature", 1.0)), "seed": seed % _SEEDS}
        body |= {key: rest[key] for key in ("top_p", "top_k", "min_p") if key in rest}
    return body
