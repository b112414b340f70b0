"""What answering took, beside the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tuneboard.records import Cost
from tuneboard.report.tables import format_table, listed, one_line

#: Column to the field of ``Cost`` and the unit that it is told in.
_COLUMNS: Mapping[str, tuple[str, float]] = {
    "tokens/s": ("tokens_per_s", 1),
    "first token ms": ("first_token_s", 1000),
    "p50 ms": ("latency_p50_s", 1000),
    "p95 ms": ("latency_p95_s", 1000),
    "p99 ms": ("latency_p99_s", 1000),
    "peak GiB": ("peak_memory_gib", 1),
    "J/token": ("joules_per_token", 1),
}


def efficiency_facts(costs: Mapping[str, Cost]) -> dict[str, dict[str, Any]]:
    """Return costs by candidate, for JSON."""
    return {name: asdict(cost) for name, cost in costs.items()}


def efficiency_text(costs: Mapping[str, Cost]) -> str:
    """Lay out the costs of candidates as a table, with how they were measured below.

    Args:
        costs: By candidate; columns of which nothing was measured are left out.
    """
    fields = [
        (title, *one) for title, one in _COLUMNS.items() if any(getattr(c, one[0]) is not None for c in costs.values())
    ]
    rows = [
        [name, *(_scaled(getattr(cost, field), scale) for _, field, scale in fields)] for name, cost in costs.items()
    ]
    table = format_table(["efficiency", *(title for title, _, _ in fields)], rows)
    return "\n".join([table, *map(one_line, _notes(costs))])


def _scaled(value: float | None, scale: float) -> str | None:
    return None if value is None else f"{value * scale:,.4g}"


def _notes(costs: Mapping[str, Cost]) -> list[str]:
    notes = []
    timed = {cost.timed for cost in costs.values() if cost.timed}
    if timed:
        counts = " or ".join(map(str, sorted(timed)))
        notes.append(f"latency of one user: {counts} requests, one at a time; tokens: those of prompts and answers")
    alone = [name for name, cost in costs.items() if not cost.timed]
    if alone:
        notes.append(f"speed of the evaluation, many requests at a time: {listed(alone)}")
    machines = dict.fromkeys(cost.machine for cost in costs.values() if cost.machine)
    sources = dict.fromkeys(cost.energy_source for cost in costs.values() if cost.energy_source)
    notes += [f"on {machine}" for machine in machines] + [
        f"energy of {source}, its idling included" for source in sources
    ]
    return notes
