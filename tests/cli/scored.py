"""Databases of candidates whose scores are known; loaded with ``runpy``, as it is in no package."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tuneboard.records import MetricValue
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))

SETTINGS = {"tasks": [{"task": "new", "role": "target"}, {"task": "old", "role": "guard"}]}
#: Samples fixed and broken, of 200 documents of which the base has 100 right.
CHANGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "base": {"new": (0, 0), "old": (0, 0)},
    "mine": {"new": (60, 5), "old": (1, 40)},
    "good": {"new": (60, 5), "old": (2, 1)},
    "vague": {"new": (12, 10), "old": (9, 14)},
}


def scored(candidate: Any, task: str, up: int, down: int, **changes: Any) -> Any:
    """A result on 200 documents."""
    correct = [0.0] * down + [1.0] * (100 - down + up) + [0.0] * (100 - up)
    samples = tuple(
        replace(sample, metrics={"none": {"acc": mark}})
        for sample, mark in zip(build.make_samples(candidate, 200, task=task), correct, strict=True)
    )
    metric = MetricValue("acc", "none", sum(correct) / 200, None, None, True)
    ref = changes.pop("ref", None) or build.make_task(task, n_docs=200)
    return build.make_result(candidate, ref, n=200, samples=samples, metrics=(metric,), **changes)


def candidate(name: str) -> Any:
    """The base, or an adapter on it."""
    return build.make_candidate(name, adapter=None if name == "base" else name)


def fill(db: Path, *names: str) -> Store:
    """Store all tasks of the named candidates (default all) in one run."""
    store = Store(db)
    run = store.start_run(replace(build.make_provenance(), settings=SETTINGS))
    store.commit_all(
        run,
        [scored(candidate(name), task, *change) for name in names or CHANGES for task, change in CHANGES[name].items()],
    )
    return store
