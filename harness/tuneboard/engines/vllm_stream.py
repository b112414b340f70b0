"""Requests to a running vLLM, a window of them at a time, and their answers as they are ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from tuneboard.engines.tokens import Tokens
from tuneboard.engines.vllm_faults import first_line

#: Requests that wait in vLLM or run there. More than its largest batch, so that none is smaller than it could be; few
#: enough that what is not asked yet costs no memory.
IN_FLIGHT = 2048
#: Requests that follow each other and go to the same copy of a model: they share prefixes.
RUN_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Request:
    """One request as vLLM takes it."""

    key: int
    """Comes back with the answer."""
    tokens: Tokens
    params: Any
    """``SamplingParams``."""
    lora: Any = None
    """``LoRARequest``; None for the base."""


#: Key of a request with vLLM's ``RequestOutput``, or with the reason (a text) why vLLM refused it.
Outcome = tuple[int, Any]


class WorkerEnded(Exception):
    """A worker process ended by itself, or was killed."""


class Worker(Protocol):
    """A process, as ``multiprocessing`` has it."""

    def is_alive(self) -> bool:
        """Tell whether it still runs."""
        ...


class Stream:
    """Puts requests through one ``vllm.LLM``.

    Args:
        llm: A running ``vllm.LLM``.
        workers: Its worker processes; none where the model lives in this one.
    """

    def __init__(self, llm: Any, workers: Sequence[Worker] = ()) -> None:
        self._engine = llm.llm_engine
        self._step: Callable[[], Any] = _Watched(self._engine.step, workers) if workers else self._engine.step
        self._numbers = count()

    def run(self, requests: Iterable[Request], window: int | None = None) -> Iterator[Outcome]:
        """Yield the outcome of every request, as it is ready.

        Requests are taken from the iterable when there is room for them, so that what it does to make them goes on
        while vLLM's worker process computes.

        Args:
            requests: Each is asked once.
            window: Most requests that wait or run; None: ``IN_FLIGHT``.
        """
        window = window or IN_FLIGHT
        waiting = iter(requests)
        open_keys: dict[str, int] = {}
        more = True
        try:
            while more or open_keys:
                while more and len(open_keys) < window:
                    request = next(waiting, None)
                    if request is None:
                        more = False
                        break
                    name = str(next(self._numbers))
                    if refusal := self._add(name, request):
                        yield request.key, refusal
                    else:
                        open_keys[name] = request.key
                if not open_keys:
                    continue
                for output in self._step():
                    if output.finished:
                        yield open_keys.pop(output.request_id), output
        finally:
            if open_keys:
                self._abort(list(open_keys))

    def _add(self, name: str, request: Request) -> str:
        prompt = {"prompt_token_ids": request.tokens.tolist()}
        try:
            self._engine.add_request(name, prompt, request.params, lora_request=request.lora)
        except ValueError as error:  # such as a prompt that is too long; the others are fine
            return f"vLLM refuses the request: {first_line(error)}"
        return ""

    def _abort(self, names: list[str]) -> None:
        """Take back what nobody waits for any more; an engine that died has nothing to take back."""
        try:
            self._engine.abort_request(names)
        except Exception:  # whatever is wrong with it was raised before
            return


class _Watched:
    """Calls a function in a thread of its own and gives up when the workers are gone.

    vLLM 0.32 waits for ever for the answers of a worker process that was killed.

    Args:
        call: What to call; never twice at a time.
        workers: Processes that it needs.
    """

    def __init__(self, call: Callable[[], Any], workers: Sequence[Worker]) -> None:
        self._call, self._workers = call, workers
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self) -> Any:
        """Return what the function returns, or raise what it raises, or ``WorkerEnded``."""
        self._asked.put(None)
        grace = 4  # rounds in which vLLM may say by itself what happened
        while True:
            try:
                value, error = self._done.get(timeout=0.5)
            except Empty:
                grace -= not all(worker.is_alive() for worker in self._workers)
                if grace == 0:
                    raise WorkerEnded("a worker process ended") from None
                continue
            if error is not None:
                raise error
            return value

    def _serve(self) -> None:
        while True:
            self._asked.get()
            try:
                self._done.put((self._call(), None))
            except BaseException as error:  # raised again where it is waited for
                self._done.put((None, error))


class Streams:
    """Puts requests through several copies of one model, each of which takes the next ones when it has room.

    ``vllm.LLM`` has no data parallelism of its own: each copy is one, with a worker process that computes while the
    others do.

    Args:
        llms: Running, with the same adapters; each with its worker processes.
    """

    def __init__(self, llms: Sequence[tuple[Any, Sequence[Worker]]]) -> None:
        self._streams = [Stream(llm, workers) for llm, workers in llms]

    def run(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcome of every request, as it is ready; see ``Stream.run``."""
        if len(self._streams) == 1:
            yield from self._streams[0].run(requests)
            return
        shared, lock, stopped = iter(requests), threading.Lock(), threading.Event()
        done: SimpleQueue[Outcome | BaseException | None] = SimpleQueue()

        def dealt() -> Iterator[Request]:
            while not stopped.is_set():
                with lock:
                    some = list(islice(shared, RUN_LENGTH))
                if not some:
                    return
                yield from some

        def work(stream: Stream) -> None:
            try:
                for outcome in stream.run(dealt(), 2 * RUN_LENGTH):
                    done.put(outcome)
                    if stopped.is_set():
                        break
                done.put(None)
            except BaseException as error:  # raised again where the answers are waited for
                done.put(error)

        threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in self._streams]
        for thread in threads:
            thread.start()
        working = len(threads)
        try:
            while working:
                outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome is None:
                    working -= 1
                else:
                    yield outcome
        finally:
            stopped.set()
