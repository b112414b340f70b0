"""What the vLLM engine adds to vLLM: one evaluation, then all of its requests again by bare ``LLM.generate``.

Run as a program by ``vllm_vs_lm_eval.py`` with the words of a ``tuneboard`` command; prints JSON. The requests of the
evaluation are recorded on their way into vLLM. When it is done, the prefix cache is emptied and the same ``LLM`` gets
them once more, ready-made and all at once: what that takes is the floor of the seconds that the engine took for them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import tuneboard.evaluate.running as running
from tuneboard.cli.main import main
from tuneboard.engines import vllm_host
from tuneboard.engines.vllm_stream import Request, Streams


class Recorder:
    """Keeps the requests of every call to vLLM, and repeats them before vLLM is shut down."""

    def __init__(self) -> None:
        self.calls: list[list[Request]] = []
        self.bare_s = self.canaries_s = self.prompt_tokens = self.cached_tokens = 0.0

    def install(self) -> None:
        """Put itself between the engine and vLLM."""
        run, close, unapplied = Streams.run, vllm_host.Host.close, running.unapplied

        def recorded(streams: Streams, requests: Iterable[Request]) -> Iterator[Any]:
            taken: list[Request] = []
            self.calls.append(taken)

            def passed() -> Iterator[Request]:
                for request in requests:
                    taken.append(request)
                    yield request

            yield from run(streams, passed())

        def canaries(*arguments: Any) -> Any:
            started = time.perf_counter()
            found = unapplied(*arguments)
            # Canary prompts are no part of what is timed.
            self.canaries_s += time.perf_counter() - started
            self.calls.clear()
            return found

        def last(host: Any) -> None:
            if self.calls:
                self.repeat(host.llms[0])
            close(host)

        Streams.run, vllm_host.Host.close, running.unapplied = recorded, last, canaries  # type: ignore[method-assign]

    def repeat(self, llm: Any) -> None:
        """Time what was recorded, call by call."""
        calls, self.calls = self.calls, []
        ready = [
            (
                [{"prompt_token_ids": request.tokens.tolist()} for request in call],
                [request.params for request in call],
                [request.lora for request in call],
            )
            for call in calls
            if call
        ]
        llm.reset_prefix_cache()
        started = time.perf_counter()
        outputs = [
            llm.generate(prompts, params, lora_request=loras, use_tqdm=False) for prompts, params, loras in ready
        ]
        self.bare_s += time.perf_counter() - started
        for output in (one for part in outputs for one in part):
            self.prompt_tokens += len(output.prompt_token_ids)
            self.cached_tokens += output.num_cached_tokens or 0


def _run(words: list[str]) -> None:
    recorder, printed = Recorder(), io.StringIO()
    recorder.install()
    with contextlib.redirect_stdout(printed):
        code = main(words)
    if code:
        sys.exit(f"the evaluation ended with {code}: {printed.getvalue()[-2000:]}")
    timing = json.loads(printed.getvalue())["timing"]
    computed = recorder.prompt_tokens - recorder.cached_tokens
    engine_s = timing["engine_s"] - recorder.canaries_s
    print(json.dumps({"engine_s": engine_s, "bare_s": recorder.bare_s, "bare_prompt_tokens": computed}))


if __name__ == "__main__":
    _run(sys.argv[1:])
