"""An engine whose models are behind an OpenAI-compatible server: base and adapters are model names there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from tuneboard.engines.json_server import HttpOptions, JsonServer, ServerError
from tuneboard.engines.openai_scoring import Scorer
from tuneboard.engines.openai_writing import COMPLETIONS, Writer, first_choice
from tuneboard.engines.protocol import BASE, Answer, EngineInfo, Notice, Work
from tuneboard.engines.served import DTYPE, ServedChat, url_and_name
from tuneboard.engines.side_by_side import side_by_side
from tuneboard.engines.tokens import Encoder
from tuneboard.errors import EngineError, ModelError, UnknownName
from tuneboard.records import AdapterRef, ModelRef

#: No limit that is known: nothing is cut here, and the server refuses what is too long.
_NO_LIMIT = 1 << 30
#: Tokens written to a canary, and how many of the likeliest are compared.
_CANARY_TOKENS, _CANARY_TOP = 8, 5


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server's models are asked."""

    http: HttpOptions = field(default_factory=HttpOptions)
    tokenizer: str | None = None
    """Folder or hub id of the served model's tokenizer: tokens are then sent instead of texts."""
    max_length: int | None = None
    """Context length in tokens, in place of what the server reports."""
    trust_remote_code: bool = False


def reported_models(server: JsonServer) -> dict[str, Mapping[str, Any]]:
    """Return what a server reports of its models, by name; nothing where it lists none.

    Raises:
        ServerError: It cannot be reached, or the key is not accepted.
    """
    try:
        found = server.get("/models")
    except ServerError as error:
        if error.hopeless or error.status is None or error.status >= 429:
            raise
        return {}
    rows = found.get("data") if isinstance(found, dict) else None
    return {str(row["id"]): row for row in rows or () if isinstance(row, dict) and "id" in row}


def look_up(url: str, names: Sequence[str], options: HttpOptions, notice: Notice) -> list[Mapping[str, Any]]:
    """Return what a server reports of models, in their order; empty where it lists none.

    Raises:
        UnknownName: It has none of that name.
        ServerError: It cannot be asked.
    """
    server = JsonServer(url, options, notice)
    try:
        known = reported_models(server)
    finally:
        server.close()
    if not known:
        notice(f"{url} lists no models; their names are taken as they are given")
    for name in names if known else ():
        if name not in known:
            some = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
            raise UnknownName("model", name, known, f"{url} serves: {some}")
    return [known.get(name, {}) for name in names]


class OpenAIEngine:
    """Answers requests by asking a server; see ``protocol.Engine``.

    A request that fails for good is answered with its reason. A server that refuses the key, sends requests elsewhere
    or is gone ends the run; what was answered stays.

    Args:
        ref: The base model, from ``served.served_model``.
        options: How the server is asked.
        notice: Told what the server cannot do, and where it makes requests wait.

    Raises:
        EngineError: The server cannot be asked.
        ModelError: The tokenizer cannot be loaded.
    """

    def __init__(self, ref: ModelRef, options: ServerOptions, notice: Notice) -> None:
        started = time.perf_counter()
        url, name = url_and_name(ref)
        self.options, self.notice = options, notice
        self.server = JsonServer(url, options.http, notice)
        self._names = {BASE: name}
        known = reported_models(self.server)
        report = known.get(name, {})
        self.version = self._version(report)
        self.max_length = _shorter(
            options.max_length,
            report.get("max_model_len"),
            known.get(str(report.get("parent")), {}).get("max_model_len"),
        )
        encoder = None if options.tokenizer is None else self._encoder(options)
        self.encoder = encoder
        self.scorer = Scorer(self.server, _room_for_scoring(encoder))
        self.writer = Writer(self.server, encoder, notice)
        self._load_s = time.perf_counter() - started

    @property
    def info(self) -> EngineInfo:
        """Name, version, the server's URL as device; data types are not told."""
        details: dict[str, Any] = {
            "load_s": self._load_s,
            "models": dict(self._names),
            "sent_again": self.server.repeats,
        }
        if self.max_length is not None:
            details["max_length"] = self.max_length
        return EngineInfo("openai", self.version, self.server.url, DTYPE, details)

    @property
    def tokenizer_name(self) -> str:
        """Path or id of the tokenizer, or the server's own."""
        return self.options.tokenizer or f"{self.server.url}#{self._names[BASE]}"

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Answer for ``name`` with the model that the server has under the adapter's name there."""
        self._names[name] = adapter.path

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Keep a chat as it is: the server renders it with its own template."""
        return ServedChat().apply_chat_template(chat_history, add_generation_prompt)

    def close(self) -> None:
        """Let go of the server."""
        self.server.close()

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``, lower groups first, many requests at a time.

        Raises:
            EngineError: The server is gone, or accepts no request.
        """
        for item in work:
            if item.candidate not in self._names:
                raise EngineError(f"no adapter named '{item.candidate}' is attached")
        if self.encoder is not None:
            self.encoder.warm(text for item in work for text in self.encoder.texts(item.kind, item.arguments))
        refused = self._why_no_scores() if any(item.kind != "generate_until" for item in work) else None

        def ask(item: Work) -> Answer:
            if item.kind != "generate_until" and refused is not None:
                return Answer(item.id, None, refused)
            try:
                answerer = self.writer.write if item.kind == "generate_until" else self.scorer.score
                return answerer(self._names[item.candidate], item)
            except ServerError as error:
                if error.hopeless:
                    raise
                return Answer(item.id, None, str(error))
            except EngineError as error:
                return Answer(item.id, None, str(error))

        try:
            yield from side_by_side(ask, sorted(work, key=lambda item: item.group), self.options.http.concurrency)
        finally:
            if self.encoder is not None:
                self.encoder.forget()

    def shift(self, name: str, contexts: Sequence[str]) -> float:
        """Return the largest change that an adapter makes to the log-probabilities of the next tokens.

        Args:
            name: Of the adapter.
            contexts: Prompts to continue.

        Returns:
            0 if it makes none beyond what asking the base twice makes; not a number where it cannot be told: the texts
            are the same, and the server gives no log-probabilities.

        Raises:
            EngineError: The server does not answer.
        """
        pairs = []
        for context in contexts:
            base, again, own = (self._trace(self._names[one], context) for one in (BASE, BASE, name))
            noise = _distance(base, again)
            pairs.append((_distance(base, own), 0.0 if math.isnan(noise) else noise))
        known = [pair for pair in pairs if not math.isnan(pair[0]) and math.isfinite(pair[1])]
        if not known:
            self.notice(
                f"whether '{name}' differs from the base cannot be told: the server gives no log-probabilities, or "
                "another text each time"
            )
            return math.nan
        largest, noise = (max(values) for values in zip(*known, strict=True))
        return 0.0 if largest <= max(1e-7, 2 * noise) else largest

    def _trace(self, model: str, context: str) -> tuple[str, dict[str, float]]:
        """Return the text that continues a context, and the log-probabilities of its likeliest first tokens."""
        body: dict[str, Any] = {"model": model, "max_tokens": _CANARY_TOKENS, "temperature": 0.0}
        if not self.writer.only_chats:
            try:
                found = self.server.post(COMPLETIONS, body | {"prompt": context, "logprobs": _CANARY_TOP})
                choice = first_choice(self.server.url, found)
                return str(choice.get("text")), _first_of(choice.get("logprobs"))
            except ServerError as error:
                if error.hopeless or error.status is None:
                    raise
        answer = self.writer.write(model, Work(0, BASE, "generate_until", (context, {"max_gen_toks": _CANARY_TOKENS})))
        if answer.response is None:
            raise EngineError(answer.error or "the server gives no text")
        return str(answer.response), {}

    def _why_no_scores(self) -> str | None:
        try:
            self.scorer.prepare(self._names[BASE])
        except ServerError:
            raise
        except EngineError as error:
            return str(error)
        return None

    def _version(self, report: Mapping[str, Any]) -> str:
        owner = str(report.get("owned_by") or "")
        if owner != "vllm":
            return owner
        try:
            return f"vllm {self.server.get('//version', tries=1)['version']}"
        except (ServerError, KeyError, TypeError):
            return owner

    def _encoder(self, options: ServerOptions) -> Encoder:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(options.tokenizer, trust_remote_code=options.trust_remote_code)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"--tokenizer {options.tokenizer} cannot be loaded ({reason}); name the model's own"
            ) from error
        return Encoder(tokenizer, self.max_length or _NO_LIMIT)


def _shorter(*lengths: Any) -> int | None:
    known = [value for value in lengths if isinstance(value, int) and value > 0]
    return min(known, default=None)


def _room_for_scoring(encoder: Encoder | None) -> Encoder | None:
    """Return an encoder that leaves room for what a server counts as well.

    The token that is only predicted is part of the prompt there, and one more is written after it.
    """
    if encoder is None:
        return None
    narrow = copy(encoder)
    narrow.max_length = encoder.max_length - 2
    return narrow


def _first_of(logprobs: Any) -> dict[str, float]:
    top = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    return dict(top[0]) if isinstance(top, list) and top and isinstance(top[0], dict) else {}


def _distance(one: tuple[str, dict[str, float]], two: tuple[str, dict[str, float]]) -> float:
    """Return how far two continuations are apart; not a number where only their texts are known, and the same."""
    common = one[1].keys() & two[1].keys()
    if one[0] != two[0]:
        return math.inf
    if not common:
        return math.inf if one[1] and two[1] else math.nan
    return max(abs(one[1][token] - two[1][token]) for token in common)
