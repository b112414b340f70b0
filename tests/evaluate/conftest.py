from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import toy_world

from tuneboard.config import Suite, SuiteTask
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.records import Candidate, ModelRef


@pytest.fixture(autouse=True)
def _toy_tasks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's own 14,000 task files are not looked at; toy tasks have no namesakes there."""
    monkeypatch.setattr("tuneboard.suites.index._lm_eval_tasks", lambda: None)
    monkeypatch.delenv("TUNEBOARD_MIRROR", raising=False)


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.done_cells: list[tuple[str, str, str]] = []
        self.notes: list[str] = []
        self.totals: dict[tuple[str, str], int] = {}
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, candidate: str, task: str, total: int) -> None:
        self.totals[candidate, task] = total

    def advance(self, candidate: str, task: str, n: int = 1, tokens: int = 0) -> None:
        self.counts[candidate, task] = self.counts.get((candidate, task), 0) + n

    def done(self, candidate: str, task: str, status: str) -> None:
        self.done_cells.append((candidate, task, status))

    def note(self, line: str) -> None:
        self.notes.append(line)


@dataclass
class Bench:
    """Evaluates toy tasks with a fake engine into one database."""

    root: Path
    db: Path
    candidates: tuple[Candidate, ...]
    behaviour: Behaviour = field(default_factory=lambda: Behaviour(toy_world.texts()))
    engines: list[FakeEngine] = field(default_factory=list)
    ear: Ear = field(default_factory=Ear)

    def __call__(self, *tasks: str | SuiteTask, behaviour: Behaviour | None = None, **settings: Any) -> Any:
        from tuneboard.evaluate import EvaluateRequest, Hooks, evaluate

        self.engines, self.ear = [], Ear()
        suite = Suite("", "", tuple(SuiteTask(task) if isinstance(task, str) else task for task in tasks))
        given = {"candidates": self.candidates, "suite": suite, "db": self.db, "include_paths": (toy_world.TASKS,)}

        def load(ref: ModelRef, notice: Any) -> FakeEngine:
            self.engines.append(FakeEngine(ref, behaviour or self.behaviour))
            return self.engines[-1]

        return evaluate(EvaluateRequest(**(given | settings)), Hooks(load, self.ear))

    @property
    def asked(self) -> list[Any]:
        """What went through the engines of the last evaluation, canaries apart."""
        from tuneboard.evaluate.canary import _CANARIES

        return [work for engine in self.engines for work in engine.computed if work.arguments not in _CANARIES]


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    from tuneboard.candidates import resolve_adapter, resolve_model

    def make(*adapters: str, name: str = "bench") -> Bench:
        root = tmp_path / name
        base = resolve_model(ModelRef(str(toy_world.make_model(root / "model"))))
        of = {one: resolve_adapter(str(toy_world.make_adapter(root / one, one))) for one in adapters}
        candidates = (Candidate("base", base), *(Candidate(one, base, ref) for one, ref in of.items()))
        return Bench(root, root / "results.duckdb", candidates)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A base alone."""
    return make_bench()


@pytest.fixture
def world() -> Any:
    return toy_world


@pytest.fixture(scope="session", autouse=True)
def _data_sets_cached_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What ``datasets`` makes of the JSON files goes to a folder of this session."""
    import datasets

    folder = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder))
        yield
