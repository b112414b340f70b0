"""A comparison for programs: JSON by contract, and flat rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tuneboard.compare import CandidateComparison, Comparison, Flip, TaskComparison
from tuneboard.report.numbers import finite

#: Version of the JSON contract; keys may be added to it, never changed.
SCHEMA = 1


def comparison_json(comparison: Comparison, flips: Sequence[Flip] | None = None) -> dict[str, Any]:
    """Build the JSON of ``tuneboard compare --json``.

    Args:
        comparison: What was compared.
        flips: Samples that changed; None where nobody asked for them.

    Returns:
        JSON-able values; infinite and undefined numbers stand as null.
    """
    return {
        "schema": SCHEMA,
        "base": comparison.base,
        "candidates": [_candidate_json(candidate, flips) for candidate in comparison.candidates],
        "ranks": [
            {"task": one.task, "metric": one.metric, "filter": one.filter, "ranks": dict(one.ranks)}
            for one in comparison.ranks
        ],
    }


def row_json(row: TaskComparison) -> dict[str, Any]:
    """Return one row of a comparison under the names of the JSON contract."""
    effect = row.effect
    return {
        "task": row.task,
        "metric": row.metric,
        "filter": row.filter,
        "kind": row.kind,
        "role": row.role,
        "member_of": row.member_of,
        "headline": row.headline,
        "n": row.n,
        "n_docs": row.n_docs,
        "left_out": row.left_out,
        "base": finite(row.base),
        "base_ci": _interval(row.base_ci),
        "candidate": finite(row.candidate),
        "candidate_ci": _interval(row.candidate_ci),
        "delta": finite(row.delta),
        "ci": _interval(effect.ci),
        "test": effect.test,
        "why": effect.why,
        "p": finite(effect.p),
        "p_adjusted": finite(row.p_adjusted),
        "p_gain": finite(row.p_gain),
        "p_decline": finite(row.p_decline),
        "bound": finite(row.bound),
        "margin": finite(row.margin),
        "higher_is_better": row.higher_is_better,
        "fixed": row.fixed,
        "broke": row.broke,
        "mde": finite(effect.mde),
        "noise_floor": finite(row.noise_floor),
        "within_noise": row.within_noise,
        "status": row.status,
        "n_needed": row.n_needed,
        "note": row.note,
    }


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one flat row per candidate, task and metric, for CSV."""
    rows = []
    for candidate in comparison.candidates:
        for one in candidate.tasks:
            row = {"base_name": comparison.base, "candidate_name": candidate.name} | row_json(one)
            for name in ("ci", "base_ci", "candidate_ci"):
                low, high = row.pop(name) or (None, None)
                row |= {f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return rows


def _candidate_json(candidate: CandidateComparison, flips: Sequence[Flip] | None) -> dict[str, Any]:
    forgetting = candidate.forgetting
    content: dict[str, Any] = {
        "name": candidate.name,
        "applied": candidate.applied,
        "reason": candidate.reason,
        "tasks": [row_json(row) for row in candidate.tasks],
        "forgetting": {
            "target_gain": finite(forgetting.target_gain),
            "guard_loss": finite(forgetting.guard_loss),
            "front": forgetting.front,
            "gained": list(forgetting.gained),
            "lost": list(forgetting.lost),
        },
        "refused": [asdict(refusal) for refusal in candidate.refused],
        "notes": list(candidate.notes),
    }
    if flips is not None:
        content["flips"] = [asdict(flip) for flip in flips if flip.candidate == candidate.name]
    return content


def _interval(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [finite(end) for end in interval]
