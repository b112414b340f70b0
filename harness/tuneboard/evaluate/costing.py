"""Speed and memory of base and candidate, measured one after the other on the same requests."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tuneboard.engines.protocol import Engine, Work
from tuneboard.evaluate.placing import EngineGroup, engine_groups
from tuneboard.evaluate.recording import Ask
from tuneboard.evaluate.request import EvaluateRequest, Hooks
from tuneboard.evaluate.running import Evaluating, names_in_engine
from tuneboard.gates import Cost
from tuneboard.machine import hardware
from tuneboard.records import Candidate, fingerprint
from tuneboard.store.costs import keep_costs, machine_name
from tuneboard.suites import load_tasks

#: Requests that are timed, each alone; of a p95, the slowest of 40 and the one after it.
_TIMED = 40
#: Requests before, whose times hold compilations and first allocations.
_WARM = 3
_STATUS = Path("/proc/self/status")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def measure_costs(request: EvaluateRequest, hooks: Hooks) -> dict[str, Cost]:
    """Measure every candidate of a request in an engine of its own, so that none pays for another, and store that.

    Requests are answered one at a time: latency is what one user would wait for. Peak memory is what torch allocated on
    a GPU, else the most that the whole process held; where the system does not tell that, it is not measured.

    Args:
        request: Its candidates; of its tasks, the first documents are asked.
        hooks: Loads engines.

    Raises:
        TuneboardError: A task or a model cannot be had, or the database cannot be written.
    """
    work = Evaluating(replace(request, limit=_TIMED), hooks)
    work.loaded = load_tasks(work.task_request())
    costs = {}
    for candidate in work.request.candidates:
        asks = _chosen([ask for recorded in work.recordings(candidate).values() for ask in recorded.asks.values()])
        (group,) = engine_groups([candidate])
        hooks.listener.note(f"measuring {candidate.name}")
        knows_peak = _reset_peak()
        engine = work.load(group)
        try:
            cost = _measured(engine, _name(group, candidate), asks)
            costs[candidate.name] = replace(cost, peak_memory_gib=_peak_gib(engine) if knows_peak else None)
        finally:
            engine.close()
        requests = fingerprint([ask.hash for ask in asks])
        keep_costs(request.db, requests, {candidate.fingerprint: costs[candidate.name]})
    return costs


def _chosen(asks: Sequence[Ask]) -> Sequence[Ask]:
    """Choose evenly over all tasks; those that score and those that generate differ in speed."""
    step = max(1, len(asks) // (_TIMED + _WARM))
    return asks[::step][: _TIMED + _WARM]


def _name(group: EngineGroup, candidate: Candidate) -> str:
    return names_in_engine(group)[candidate.name]


def _measured(engine: Engine, name: str, asks: Sequence[Ask]) -> Cost:
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
        machine=machine_name({"device": engine.info.device}, hardware()),
    )


def _reset_peak() -> bool:
    """Forget what was the most so far, and give back what an earlier engine took; returns whether that worked."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        # Freed memory stays with the process otherwise, and would count for the next candidate.
        ctypes.CDLL(None).malloc_trim(0)
        # Linux, proc(5): 5 resets the peak resident size to the current one.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError, TypeError):
        return torch is not None and torch.cuda.is_available()
    return True


def _peak_gib(engine: Engine) -> float | None:
    if engine.info.device == "cpu":
        found = _PEAK.search(_STATUS.read_text(encoding="ascii", errors="replace")) if _STATUS.is_file() else None
        return int(found[1]) / 2**20 if found else None
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.max_memory_allocated():
        return None
    return float(torch.cuda.max_memory_allocated()) / 2**30
