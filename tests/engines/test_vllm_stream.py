"""The window of requests that a running vLLM holds."""

from __future__ import annotations

import threading
import time
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from vllm_stand_in import Completion, Output

from tuneboard.engines import vllm_stream
from tuneboard.engines.vllm_stream import Request, Stream, Streams, WorkerEnded


class Engine:
    """Finishes the request that it has longest, one a step."""

    def __init__(self, most: int = 100) -> None:
        self.names: list[str] = []
        self.most, self.largest = most, 0
        self.aborted: list[str] = []

    def add_request(self, name: str, prompt: Any, params: Any, lora_request: Any = None) -> None:
        if len(prompt["prompt_token_ids"]) > self.most:
            raise ValueError("the prompt is too long\nand more")
        self.names.append(name)
        self.largest = max(self.largest, len(self.names))

    def step(self) -> list[Output]:
        return [Output(self.names.pop(0), [Completion([1])], 0)]

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names


class Slow(Engine):
    """Takes a moment for each step, so that another gets its turn."""

    def __init__(self, breaks_at: int | None = None) -> None:
        super().__init__()
        self.answered, self.breaks_at = 0, breaks_at

    def step(self) -> list[Output]:
        time.sleep(0.0005)
        if self.answered == self.breaks_at:
            raise RuntimeError("the worker died")
        self.answered += 1
        return super().step()


def requests(count: int, length: int = 3) -> list[Request]:
    return [Request(key, np.zeros(length, dtype=np.int32), None) for key in range(count)]


def stream(engine: Engine) -> Stream:
    return Stream(SimpleNamespace(llm_engine=engine))


def test_every_request_is_answered_under_its_key(monkeypatch: Any) -> None:
    monkeypatch.setattr(vllm_stream, "IN_FLIGHT", 4)
    engine = Engine()
    assert [key for key, _ in stream(engine).run(requests(11))] == list(range(11))
    assert engine.largest == 4 and not engine.aborted


def test_a_refused_request_comes_back_with_the_reason_and_the_others_go_on() -> None:
    mixed = [*requests(2), Request(2, np.zeros(500, dtype=np.int32), None)]
    found = dict(stream(Engine()).run(mixed))
    assert found[2] == "vLLM refuses the request: the prompt is too long"
    assert all(isinstance(found[key], Output) for key in (0, 1))


def test_requests_that_nobody_waits_for_are_taken_back() -> None:
    engine = Engine()
    running = stream(engine).run(requests(5))
    list(islice(running, 2))
    running.close()
    assert len(engine.aborted) == 3


def test_names_are_used_once_in_an_engines_life() -> None:
    engine, seen = Engine(), []
    both = stream(engine)
    for _ in range(2):
        running = both.run(requests(3))
        next(running)
        seen += engine.names
        list(running)
    assert len(seen) == len(set(seen))


def test_copies_of_a_model_share_the_requests_in_runs(monkeypatch: Any) -> None:
    monkeypatch.setattr(vllm_stream, "IN_FLIGHT", 4)
    monkeypatch.setattr(vllm_stream, "RUN_LENGTH", 8)
    engines = [Slow(), Slow()]
    found = [key for key, _ in Streams([(SimpleNamespace(llm_engine=one), ()) for one in engines]).run(requests(64))]
    assert sorted(found) == list(range(64))
    assert all(one.answered >= 8 for one in engines)


def test_what_ends_one_copy_ends_the_run() -> None:
    broken = Slow(breaks_at=3)
    streams = Streams([(SimpleNamespace(llm_engine=one), ()) for one in (Slow(), broken)])
    with pytest.raises(RuntimeError, match="the worker died"):
        list(streams.run(requests(2000)))


class Stuck(Engine):
    """Waits for ever, as vLLM does for a worker process that was killed."""

    def step(self) -> list[Output]:
        threading.Event().wait()
        raise AssertionError


def test_a_worker_that_is_gone_is_noticed() -> None:
    worker = SimpleNamespace(is_alive=lambda: False)
    with pytest.raises(WorkerEnded):
        list(Stream(SimpleNamespace(llm_engine=Stuck()), [worker]).run(requests(2)))


def test_a_worker_that_takes_its_time_is_waited_for() -> None:
    worker = SimpleNamespace(is_alive=lambda: True)
    watched = Stream(SimpleNamespace(llm_engine=Engine()), [worker])
    assert [key for key, _ in watched.run(requests(5))] == list(range(5))
