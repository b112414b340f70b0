from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from tuneboard.compare import CandidateInfo, GroupScores, MetricScores, Scores, TaskScores
from tuneboard.config import SuiteTask

Values = Mapping[str, Sequence[float]]


def task_scores(task: str, values: Values, *, metric: str = "acc", **changes: object) -> TaskScores:
    """One metric of one task, from ``{candidate: scores}`` with the base first."""
    table = np.array([list(row) for row in values.values()], dtype=float)
    of_metric = {
        name: changes.pop(name)
        for name in ("higher_is_better", "details", "aggregation", "reported", "spread", "scatter")
        if name in changes
    }
    means = tuple(float(np.nanmean(row)) if not np.isnan(row).all() else float("nan") for row in table)
    scores = MetricScores(
        **{  # type: ignore[arg-type]
            "metric": metric,
            "filter": "none",
            "higher_is_better": True,
            "reported": means,
            "values": table,
            "averaged": table,
            **of_metric,
        }
    )
    return TaskScores(
        **{  # type: ignore[arg-type]
            "task": task,
            "names": tuple(values),
            "n_docs": table.shape[1],
            "output_type": "multiple_choice",
            "doc_ids": np.arange(table.shape[1]),
            "metrics": {(metric, "none"): scores},
            "repeats": (1,) * len(values),
            "cells": tuple(f"{task}-{name}" for name in values),
            **changes,
        }
    )


def all_scores(
    *tasks: TaskScores, groups: Sequence[GroupScores] = (), entries: Sequence[SuiteTask] = (), **infos: CandidateInfo
) -> Scores:
    """Tasks of the same candidates."""
    names = tasks[0].names[1:]
    return Scores(
        base=tasks[0].names[0],
        candidates=tuple(infos.get(name, CandidateInfo(name, True)) for name in names),
        tasks=tasks,
        groups=tuple(groups),
        entries=tuple(entries),
        order=(*(one.task for one in tasks), *(one.group for one in groups)),
    )


def flipped(n: int, right: int, up: int, down: int) -> dict[str, list[float]]:
    """A base with ``right`` of ``n`` right, and a candidate that fixes ``up`` and breaks ``down`` of them."""
    base = [1.0] * right + [0.0] * (n - right)
    mine = [0.0] * down + [1.0] * (right - down + up) + [0.0] * (n - right - up)
    return {"base": base, "mine": mine}


@pytest.fixture
def make_task() -> Callable[..., TaskScores]:
    return task_scores


@pytest.fixture
def make_scores() -> Callable[..., Scores]:
    return all_scores


@pytest.fixture
def make_flips() -> Callable[..., dict[str, list[float]]]:
    return flipped
