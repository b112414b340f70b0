"""Speed and memory of base and candidate, measured one after the other on the same requests."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from tuneboard.engines.protocol import Engine, Work
from tuneboard.evaluate.placing import EngineGroup, engine_groups
from tuneboard.evaluate.recording import Ask
from tuneboard.evaluate.request import EvaluateRequest, Hooks
from tuneboard.evaluate.running import Evaluating, names_in_engine
from tuneboard.gates import Cost
from tuneboard.records import Candidate
from tuneboard.suites import load_tasks

#: Requests that are timed, each alone; of a p95, the slowest of 40 and the one after it.
_TIMED = 40
#: Requests before, whose times hold compilations and first allocations.
_WARM = 3


def measure_costs(request: EvaluateRequest, hooks: Hooks) -> dict[str, Cost]:
    """Measure every candidate of a request in an engine of its own, so that none pays for another.

    Requests are answered one at a time: latency is what one user would wait for. Peak memory is what torch allocated on
    a GPU; elsewhere it is not measured, since a process does not give back what an earlier engine took.

    Args:
        request: Its candidates; of its tasks, the first documents are asked.
        hooks: Loads engines.

    Raises:
        TuneboardError: A task or a model cannot be had.
    """
    work = Evaluating(replace(request, limit=_TIMED), hooks)
    work.loaded = load_tasks(work.task_request())
    costs = {}
    for candidate in work.request.candidates:
        asks = [ask for recorded in work.recordings(candidate).values() for ask in recorded.asks.values()]
        # Evenly over all tasks; those that score and those that generate differ in speed.
        step = max(1, len(asks) // (_TIMED + _WARM))
        (group,) = engine_groups([candidate])
        hooks.listener.note(f"measuring {candidate.name}")
        _reset_peak()
        engine = work.load(group)
        try:
            costs[candidate.name] = _measured(engine, _name(group, candidate), asks[::step][: _TIMED + _WARM])
        finally:
            engine.close()
    return costs


def _name(group: EngineGroup, candidate: Candidate) -> str:
    return names_in_engine(group)[candidate.name]


def _measured(engine: Engine, name: str, asks: list[Ask]) -> Cost:
    seconds, tokens = [], 0
    for place, ask in enumerate(asks):
        started = time.perf_counter()
        answers = list(engine.run([Work(place, name, ask.kind, ask.arguments, 0, ask.seed)]))  # type: ignore[arg-type]
        # Where there are too few requests, none is left out.
        if place >= _WARM or len(asks) <= _WARM:
            seconds.append(time.perf_counter() - started)
            tokens += sum(answer.tokens.computed for answer in answers)
    seconds.sort()
    return Cost(
        tokens_per_s=tokens / sum(seconds) if tokens and seconds else None,
        latency_p95_s=seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))] if seconds else None,
        peak_memory_gib=_peak_gib(),
        machine=engine.info.device,
    )


def _reset_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gib() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.max_memory_allocated():
        return None
    return float(torch.cuda.max_memory_allocated()) / 2**30
