"""What goes wrong between here and a server is tried again, told apart from what cannot succeed, and never a score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from typing import Any

import pytest
from model_server import FakeModel, Fault, ModelServer, hurry, serving

from tuneboard.engines import json_server
from tuneboard.engines.json_server import HttpOptions, JsonServer, ServerError
from tuneboard.engines.openai import OpenAIEngine, ServerOptions
from tuneboard.engines.protocol import Work
from tuneboard.engines.served import is_on_server, is_served, served_model, server_url, url_and_name
from tuneboard.engines.side_by_side import side_by_side
from tuneboard.errors import EngineError, UsageError

SECRET = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def serve() -> Iterator[Callable[..., ModelServer]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(ModelServer({"base": FakeModel()}, **settings)))


def sometimes(faults: Mapping[str, list[Fault]]) -> Callable[[str, Mapping[str, Any]], Fault | None]:
    """Faults of the requests with a prompt, one after the other; then it is answered."""

    def fault(path: str, body: Mapping[str, Any]) -> Fault | None:
        waiting = faults.get(str(body.get("prompt")))
        return waiting.pop(0) if waiting else None

    return fault


def written(server: ModelServer, *prompts: str, notes: list[str] | None = None, **http: Any) -> dict[str, Any]:
    """Answers by prompt."""
    notice = (lambda line: None) if notes is None else notes.append
    options = ServerOptions(HttpOptions(**http))
    engine = OpenAIEngine(served_model(server.url, "base", {}), options, notice)
    try:
        work = [Work(i, "", "generate_until", (prompt, {})) for i, prompt in enumerate(prompts)]
        return {prompts[answer.id]: answer for answer in engine.run(work)}
    finally:
        engine.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {"error": {"message": "slow down"}}),
        Fault(500, {"error": {"message": "oops"}}),
        Fault(503, b"<html>busy</html>"),
        Fault(200, "broken {"),
        Fault(200, b"\xff\xfe"),
    ],
)
def test_passing_trouble_is_asked_again_and_said_once(fault: Fault, serve: Any) -> None:
    notes: list[str] = []
    server = serve(fault=sometimes({"a": [fault, fault], "b": [fault]}))
    answers = written(server, "a", "b", "c", notes=notes)
    assert [answer.error for answer in answers.values()] == [None] * 3
    assert Counter(body["prompt"] for body in server.posts()) == {"a": 3, "b": 2, "c": 1}
    assert len([line for line in notes if "asking again" in line]) == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_makes_every_thread_wait(as_date: bool, serve: Any) -> None:
    started = time.monotonic()
    when = formatdate(time.time() + 2, usegmt=True) if as_date else "0.6"
    least_s = 0.5
    server = serve(fault=sometimes({"a": [Fault(429, {}, {"Retry-After": when})]}))
    answers = written(server, "a", *"bcdefgh", concurrency=1)
    assert all(answer.error is None for answer in answers.values())
    assert time.monotonic() - started >= least_s


def test_a_limit_of_hours_ends_the_run_with_what_to_do(serve: Any) -> None:
    server = serve(
        fault=lambda path, body: Fault(429, {"error": {"message": "quota"}}, {"Retry-After": "7200"}) if body else None
    )
    with pytest.raises(EngineError, match="quota; it asks to wait 7,200 s: run the same command again then"):
        written(server, "a")


def test_a_slow_answer_is_waited_for_and_a_lost_one_is_a_failed_sample(serve: Any) -> None:
    late, lost = Fault(200, {"choices": [{"text": "late"}]}, after_s=0.2), Fault(after_s=2.0)
    server = serve(fault=sometimes({"late": [late], "lost": [lost, lost, lost]}))
    answers = written(server, "late", "lost", "well", timeout_s=0.5)
    assert answers["late"].response == "late"
    assert answers["lost"].response is None
    assert "no answer within 0.5 s; asked 2 times" in answers["lost"].error
    assert answers["well"].error is None


def test_a_request_that_is_refused_fails_alone_with_the_reason_and_is_not_asked_again(serve: Any) -> None:
    refusal = Fault(400, {"error": {"message": "This model's maximum context length is 16 tokens.\nShorten it."}})
    server = serve(fault=sometimes({"long": [refusal] * 9}))
    answers = written(server, "long", "short")
    assert answers["long"].response is None
    assert answers["long"].error.endswith("answers 400: This model's maximum context length is 16 tokens. Shorten it.")
    assert answers["short"].error is None
    assert Counter(body["prompt"] for body in server.posts())["long"] == 1


@pytest.mark.parametrize(
    "body", [{"message": "older form", "object": "error"}, {"detail": "FastAPI's form"}, {"error": "a text"}, b"plain"]
)
def test_every_form_of_an_error_is_read(body: Any, serve: Any) -> None:
    server = serve(fault=lambda path, asked: Fault(422, body) if asked else None)
    said = body.decode() if isinstance(body, bytes) else next(iter(body.values()))
    assert written(server, "a")["a"].error == f"{server.url} answers 422: {said}"


def test_what_fails_however_often_it_is_asked_is_a_failed_sample(serve: Any) -> None:
    server = serve(fault=sometimes({"bad": [Fault(500, {"error": {"message": "no"}})] * 9}))
    answers = written(server, "bad", "good", tries=3)
    assert answers["bad"].response is None
    assert answers["bad"].error.endswith("answers 500: no; asked 3 times")
    assert answers["good"].error is None


def test_a_server_that_is_gone_ends_the_run_after_a_few_requests(serve: Any) -> None:
    server = serve(fault=lambda path, body: Fault(502, b"") if body else None)
    with pytest.raises(EngineError, match="answers 502; asked 2 times"):
        written(server, *(f"prompt {i}" for i in range(1000)), tries=2, concurrency=4)
    assert len(server.posts()) < 40


def test_a_server_that_was_never_there_is_one_line() -> None:
    with pytest.raises(ServerError, match=r"http://127.0.0.1:9/v1 cannot be reached \(.*refused.*\); asked 2 times"):
        OpenAIEngine(
            served_model("http://127.0.0.1:9/v1", "base", {}), ServerOptions(HttpOptions(tries=2)), lambda line: None
        )


@pytest.mark.parametrize("variable", json_server.KEYS)
def test_the_key_comes_from_the_environment_and_goes_into_the_header_alone(
    variable: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(key=SECRET)
    with pytest.raises(ServerError, match="no key is given: set TUNEBOARD_API_KEY"):
        written(server, "a")
    monkeypatch.setenv(variable, "wrong-" + SECRET)
    with pytest.raises(ServerError, match="the key there is not accepted") as error:
        written(server, "a")
    assert SECRET not in str(error.value) and "***" in str(error.value)
    monkeypatch.setenv(variable, SECRET)
    assert written(server, "a")["a"].error is None
    assert server.seen_keys == {None, f"Bearer wrong-{SECRET}", f"Bearer {SECRET}"}
    assert SECRET not in repr(server.posts())


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEBOARD_API_KEY", f"{SECRET}\nX-Evil: 1")
    with pytest.raises(UsageError, match="TUNEBOARD_API_KEY holds characters") as error:
        JsonServer("http://localhost/v1", HttpOptions(), lambda line: None)
    assert SECRET not in str(error.value)


def test_a_key_that_would_travel_in_the_open_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    notes: list[str] = []
    for url in ("http://10.0.0.1/v1", "https://10.0.0.1/v1", "http://localhost:8000/v1"):
        JsonServer(url, HttpOptions(), notes.append)
    assert len(notes) == 1 and "http://10.0.0.1/v1 unencrypted" in notes[0] and SECRET not in notes[0]


def test_a_redirect_is_not_followed(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEBOARD_API_KEY", SECRET)
    elsewhere = serve()
    server = serve(fault=lambda path, body: Fault(307, b"", {"Location": elsewhere.url}) if body else None)
    with pytest.raises(ServerError, match=f"sends requests on to {elsewhere.url}; give that as --url"):
        written(server, "a")
    assert elsewhere.asked == []


def test_an_engine_that_is_closed_wakes_what_waits(serve: Any) -> None:
    server = serve(fault=lambda path, body: Fault(429, {}, {"Retry-After": "60"}) if body else None)
    asker = JsonServer(server.url, HttpOptions(), lambda line: asker.closed.set())
    started = time.monotonic()
    with pytest.raises(ServerError, match="closed"):
        asker.post("/completions", {"prompt": "a"})
    assert time.monotonic() - started < 5


def test_items_are_no_longer_taken_once_nobody_reads() -> None:
    taken: list[int] = []

    def ask(item: int) -> int:
        taken.append(item)
        time.sleep(0.01)
        return item

    results = side_by_side(ask, range(1000), 2)
    assert next(results) in (0, 1)
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.1)
    count = len(taken)
    time.sleep(0.1)
    assert len(taken) == count < 100


def test_a_defect_in_a_thread_is_raised_where_it_is_seen() -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 // item, [1, 0, 1], 2))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1"),
        ("https://example.com/openai/v1/completions/", "https://example.com/openai/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_urls_are_brought_to_one_form(given: str, url: str) -> None:
    assert server_url(given) == url
    ref = served_model(url, "org/name#2", {})
    assert url_and_name(ref) == (url, "org/name#2")
    assert is_served(ref) and is_on_server(ref.id)


@pytest.mark.parametrize("given", ["localhost:8000", "ftp://host/v1", "http://", "http://[::1", "runs/lora", ""])
def test_what_is_no_url_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"expected (one|a URL) such as http://localhost:8000/v1"):
        server_url(given)


@pytest.mark.parametrize(
    "given", [f"http://me:{SECRET}@host/v1", f"http://host/v1?key={SECRET}", f"http://host/v1#{SECRET}"]
)
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(UsageError, match="would be stored") as error:
        server_url(given)
    assert SECRET not in str(error.value)


def test_identity_is_url_name_and_what_lasts_of_the_servers_report() -> None:
    one = served_model("http://a/v1", "m", {"id": "m", "root": "w1", "created": 1, "permission": [{"id": "x"}]})
    again = served_model("http://a/v1", "m", {"id": "m", "root": "w1", "created": 2, "max_model_len": 9})
    others = [
        served_model("http://a/v1", "m", {"id": "m", "root": "w2"}),
        served_model("http://a/v1", "n", {"id": "m", "root": "w1"}),
        served_model("http://b/v1", "m", {"id": "m", "root": "w1"}),
    ]
    assert one.sha256 == again.sha256
    assert len({one.sha256, *(other.sha256 for other in others)}) == 4
