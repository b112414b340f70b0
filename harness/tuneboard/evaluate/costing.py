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

from tuneboard.engines.protocol import Answer, Engine, Work
from tuneboard.engines.served import is_on_server
from tuneboard.evaluate.energy import EnergyMeter, counters_of
from tuneboard.evaluate.placing import EngineGroup, engine_groups
from tuneboard.evaluate.recording import Ask
from tuneboard.evaluate.request import EvaluateRequest, Hooks
from tuneboard.evaluate.running import Evaluating, names_in_engine
from tuneboard.machine import hardware
from tuneboard.records import Cost, fingerprint
from tuneboard.store.costs import keep_costs, machine_name
from tuneboard.suites import load_tasks

#: Requests that are timed, each alone; the p95 is the second slowest of 40, the p99 the slowest.
_TIMED = 40
#: Of these, prompts whose first token is timed.
_FIRST_TOKENS = 10
#: Requests before, whose times hold compilations and first allocations.
_WARM = 3
_STATUS = Path("/proc/self/status")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def measure_costs(request: EvaluateRequest, hooks: Hooks) -> dict[str, Cost]:
    """Measure every candidate of a request in an engine of its own, so that none pays for another, and store that.

    Requests are answered one at a time: latency is what one user would wait for. Peak memory is what torch allocated on
    a GPU, else the most that the whole process held; energy what processors or GPU counted. What the system does not
    tell is not measured.

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
            cost = _measured(engine, group, asks)
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


def _measured(engine: Engine, group: EngineGroup, asks: Sequence[Ask]) -> Cost:
    name = names_in_engine(group)[group.candidates[0].name]
    # Where there are too few requests, none is left out.
    warm = asks[:_WARM] if len(asks) > _WARM else []
    for ask in warm:
        _timed(engine, name, ask)
    meter = EnergyMeter([] if is_on_server(group.candidates[0].model.id) else counters_of(engine.info.device))
    timed = [_timed(engine, name, ask) for ask in asks[len(warm) :]]
    joules, tokens = meter.read(), sum(computed for _, computed in timed)
    seconds = sorted(spent for spent, _ in timed)
    return Cost(
        tokens_per_s=tokens / sum(seconds) if tokens and seconds else None,
        latency_p50_s=_percentile(seconds, 0.5),
        latency_p95_s=_percentile(seconds, 0.95),
        latency_p99_s=_percentile(seconds, 0.99),
        first_token_s=_first_token(engine, name, asks),
        joules_per_token=joules / tokens if joules is not None and tokens else None,
        energy_source=meter.source,
        machine=machine_name({"device": engine.info.device}, hardware()),
        timed=len(seconds),
    )


def _timed(engine: Engine, name: str, ask: Ask) -> tuple[float, int]:
    """Answer one request; returns the seconds that it took and the tokens that were computed for it."""
    seconds, answer = _answered(engine, Work(0, name, ask.kind, ask.arguments, 0, ask.seed))  # type: ignore[arg-type]
    return seconds, answer.tokens.computed


def _answered(engine: Engine, work: Work) -> tuple[float, Answer]:
    """Return the seconds until an answer is there, and it; what the engine tidies up after that nobody waits for."""
    started = time.perf_counter()
    answers = iter(engine.run([work]))
    answer = next(answers, Answer(work.id, None))
    seconds = time.perf_counter() - started
    for _ in answers:
        pass
    return seconds, answer


def _first_token(engine: Engine, name: str, asks: Sequence[Ask]) -> float | None:
    """Return the median time until an answer has its first token; None for what does not generate.

    An answer of one token is there when its first token is. A number before each prompt keeps what an engine remembers
    of earlier prompts, or shares between them, out of the time.
    """
    seconds = []
    for place, ask in enumerate(asks[:_FIRST_TOKENS]):
        settings = {"until": [], "max_gen_toks": 1, "do_sample": False}
        work = Work(0, name, "generate_until", (f"{place}\n{ask.arguments[0]}", settings), 0, ask.seed)
        spent, answer = _answered(engine, work)
        if answer.response is not None:
            seconds.append(spent)
    return _percentile(sorted(seconds), 0.5)


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


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
