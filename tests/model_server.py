"""A real HTTP server on this machine that speaks OpenAI's protocol for test models, and misbehaves on request."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol


@dataclass(frozen=True)
class Scored:
    """One token of a prompt."""

    id: int
    text: str
    logprob: float | None
    rank: int


class Model(Protocol):
    """What answers behind a name."""

    def score(self, prompt: str | list[int]) -> list[Scored]: ...

    def write(self, prompt: str | list[int], body: Mapping[str, Any]) -> str: ...


class FakeModel:
    """Answers by the rules of ``FakeEngine``: from a hash of its weights and of what is asked."""

    def __init__(self, weights: str = "base", texts: Mapping[str, str] | None = None) -> None:
        from tuneboard.engines.fake import Behaviour, FakeEngine
        from tuneboard.records import ModelRef

        self.engine = FakeEngine(ModelRef("", sha256=weights), Behaviour(texts or {}))

    def score(self, prompt: str | list[int]) -> list[Scored]:
        assert isinstance(prompt, str)
        pieces, before, out = re.findall(r"\s?\w+|\s?[^\w\s]|\s", prompt), "", []
        for number, piece in enumerate(pieces):
            logprob, likeliest = self.respond("loglikelihood", (before, piece))
            out.append(Scored(number, piece, logprob if number else None, 1 if likeliest else 2))
            before += piece
        return out

    def write(self, prompt: str | list[int], body: Mapping[str, Any]) -> str:
        sampled = body.get("temperature", 1.0) > 0
        settings = {"do_sample": sampled}
        return str(self.respond("generate_until", (prompt, settings), body.get("seed", 0)))

    def respond(self, kind: Any, arguments: tuple[Any, ...], seed: int = 0) -> Any:
        from tuneboard.engines.protocol import Work

        (answer,) = self.engine.run([Work(0, "", kind, arguments, seed=seed)])
        return answer.response


@dataclass
class Fault:
    """How a request is answered in place of an answer."""

    status: int = 200
    body: Any = "broken {"
    """JSON-able, or the bytes of a body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0


@dataclass
class ModelServer:
    """What is served, how, and what was asked."""

    models: Mapping[str, Model]
    forms: tuple[str, ...] = ("prompt_logprobs", "echo")
    """In which the server gives log-probabilities of prompts."""
    has_completions: bool = True
    has_models: bool = True
    bos: str = ""
    """Text of a token that the server puts before every prompt."""
    key: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """Of every model, as ``/models`` gives them."""
    refuses: tuple[str, ...] = ()
    """Parameters that it does not know."""
    fault: Callable[[str, Mapping[str, Any]], Fault | None] = lambda path, body: None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    seen_keys: set[str | None] = field(default_factory=set)
    most_at_once: int = 0
    url: str = ""
    _now: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any]) -> Fault:
        if path == "/v1/models" and self.has_models:
            rows = [{"id": name, "object": "model", "created": time.time(), **self.details} for name in self.models]
            return Fault(body={"object": "list", "data": rows})
        if path == "/version":
            return Fault(body={"version": "0.0.test"})
        if path == "/v1/chat/completions" or (path == "/v1/completions" and self.has_completions):
            return self._complete(path, body)
        return Fault(404, {"detail": "Not Found"})

    def _complete(self, path: str, body: dict[str, Any]) -> Fault:
        for name in self.refuses:
            if name in body:
                return Fault(400, _error(f"Unsupported parameter: '{name}' is not supported with this model."))
        if body["model"] not in self.models:
            return Fault(404, _error(f"The model `{body['model']}` does not exist."))
        model = self.models[body["model"]]
        if path == "/v1/chat/completions":
            text = model.write(body["messages"][-1]["content"], body)
            return Fault(body={"choices": [{"message": {"role": "assistant", "content": text}}], "usage": _usage(9, 3)})
        choice = {"text": model.write(body["prompt"], body), "finish_reason": "stop", "index": 0}
        choice |= self._logprobs(model, body)
        size = len(str(body["prompt"]).split()) if not isinstance(body["prompt"], list) else len(body["prompt"])
        if "logprobs" in choice and body.get("echo"):
            size = len(choice["logprobs"]["tokens"]) - 1
        return Fault(body={"choices": [choice], "usage": _usage(size, 1)})

    def _logprobs(self, model: Model, body: dict[str, Any]) -> dict[str, Any]:
        form = "echo" if body.get("echo") else "prompt_logprobs" if "prompt_logprobs" in body else None
        if form is None:
            return {} if "logprobs" not in body else {"logprobs": {"top_logprobs": [self._next(model, body)]}}
        if form not in self.forms:
            return {}
        tokens = model.score(body["prompt"])
        if self.bos:
            first = tokens[0]
            own = FakeModel("bos").score("x " + first.text)[-1].logprob if first.logprob is None else first.logprob
            tokens = [Scored(0, self.bos, None, 0), Scored(first.id, first.text, own, 2), *tokens[1:]]
        if form == "prompt_logprobs":
            return {"prompt_logprobs": [None if t.logprob is None else _row(t) for t in tokens]}
        values = [token.logprob for token in tokens]
        tops = [None if t.logprob is None else {t.text: t.logprob} | _better(t) for t in tokens]
        last = {"tokens": [" x"], "token_logprobs": [-1.0], "top_logprobs": [{" x": -1.0}]}
        lists = {"tokens": [t.text for t in tokens], "token_logprobs": values, "top_logprobs": tops}
        return {"logprobs": {name: found + last[name] for name, found in lists.items()}}

    def _next(self, model: Model, body: dict[str, Any]) -> dict[str, float]:
        tokens = model.score(body["prompt"] + " a") if isinstance(body["prompt"], str) else []
        return {" a": tokens[-1].logprob or 0.0} if tokens else {}

    def posts(self) -> list[dict[str, Any]]:
        """Bodies of everything that was posted."""
        return [body for path, body in self.asked if "completions" in path]


def _row(token: Scored) -> dict[str, Any]:
    own = {str(token.id): {"logprob": token.logprob, "rank": token.rank, "decoded_token": token.text}}
    better = {"999": {"logprob": -0.01, "rank": 1, "decoded_token": "better"}}
    return own if token.rank == 1 else own | better


def _better(token: Scored) -> dict[str, float]:
    return {} if token.rank == 1 else {"better": (token.logprob or 0.0) + 0.5}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
    }


@contextmanager
def serving(server: ModelServer) -> Iterator[ModelServer]:
    """Serve on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else small answers wait for the client's acknowledgement of the header.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            header = self.headers.get("Authorization")
            with server._lock:
                server.asked.append((self.path, body))
                server.seen_keys.add(header)
                server._now += 1
                server.most_at_once = max(server.most_at_once, server._now)
            fault = server.fault(self.path, body)
            if server.key is not None and header != f"Bearer {server.key}":
                fault = Fault(401, _error(f"Incorrect API key provided: {header}."))
            if fault is None:
                fault = server.answer(self.path, body)
            time.sleep(fault.after_s)
            data = fault.body if isinstance(fault.body, bytes) else json.dumps(fault.body).encode()
            data = fault.body.encode() if isinstance(fault.body, str) else data
            with server._lock:
                server._now -= 1
            try:
                self.send_response(fault.status)
                for name, value in {"Content-Length": str(len(data)), **fault.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the client gave up waiting

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def hurry(monkeypatch: Any) -> None:
    """Let clients wait hardly at all before they ask again, and take no key from the machine's environment."""
    from tuneboard.engines import json_server

    monkeypatch.setattr(json_server, "_FIRST_WAIT_S", 0.01)
    for name in json_server.KEYS:
        monkeypatch.delenv(name, raising=False)
