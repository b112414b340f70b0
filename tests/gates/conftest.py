from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tuneboard.compare import CandidateInfo, Comparison, MetricScores, Plan, Scores, TaskScores, compare
from tuneboard.config import SuiteTask
from tuneboard.gates import Policy, Rule

Sides = tuple[Sequence[float], Sequence[float]]


def make_flips(n: int, up: int, down: int, right: int | None = None) -> Sides:
    """A base with ``right`` of ``n`` right, of which the candidate breaks ``down``; it fixes ``up`` others."""
    right = n // 2 if right is None else right
    base = [1.0] * right + [0.0] * (n - right)
    mine = [0.0] * down + [1.0] * (right - down + up) + [0.0] * (n - right - up)
    return base, mine


def make_comparison(
    tasks: Mapping[str, Sides],
    *,
    metric: str = "acc",
    higher_is_better: bool = True,
    roles: Mapping[str, str] | None = None,
    info: CandidateInfo | None = None,
    base: str = "base",
    spread: Sequence[float] | None = None,
    clusters: tuple[str, ...] | None = None,
    plan: Plan | None = None,
) -> Comparison:
    """What ``compare`` makes of tasks with one metric each."""
    made = []
    for task, sides in tasks.items():
        table = np.array(sides, dtype=float)
        scores = MetricScores(
            metric=metric,
            filter="none",
            higher_is_better=higher_is_better,
            reported=tuple(float(row.mean()) for row in table),
            values=table,
            averaged=table,
            spread=None if spread is None else np.array(spread),
        )
        made.append(
            TaskScores(
                task=task,
                names=(base, "mine"),
                n_docs=table.shape[1],
                output_type="multiple_choice",
                doc_ids=np.arange(table.shape[1]),
                metrics={(metric, "none"): scores},
                repeats=(1, 1),
                cells=("a", "b"),
                clusters=clusters,
            )
        )
    entries = tuple(SuiteTask(task, role=role) for task, role in (roles or {}).items())  # type: ignore[arg-type]
    info = info or CandidateInfo("mine", True)
    return compare(Scores(base, (info,), tuple(made), entries=entries, order=tuple(tasks)), plan)


def make_policy(*rules: Rule, **changes: object) -> Policy:
    """A policy of ``mine`` against ``base``."""
    rules = rules or (Rule("not_regress"),)
    return Policy(**{"name": "test", "base": "base", "candidate": "mine", "rules": rules, **changes})  # type: ignore[arg-type]


@pytest.fixture
def flips() -> Callable[..., Sides]:
    return make_flips


@pytest.fixture
def comparison() -> Callable[..., Comparison]:
    return make_comparison


@pytest.fixture
def policy() -> Callable[..., Policy]:
    return make_policy


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a policy file."""

    def write_text(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
