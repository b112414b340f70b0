from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import toy_world

import tuneboard
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
        self.engines = 0

    def add(self, candidate: str, task: str, total: int, known: int = 0) -> None:
        self.totals[candidate, task] = total
        self.counts[candidate, task] = self.counts.get((candidate, task), 0) + known

    def ready(self) -> None:
        self.engines += 1

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


@dataclass
class Ended:
    """How a command line ended."""

    status: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None


class Driver:
    """Starts command lines in processes of their own; see ``toy_driver.py``."""

    def __init__(self, cache: Path) -> None:
        here = Path(__file__).parent
        package = Path(tuneboard.__file__).parent.parent
        environment = os.environ | {"PYTHONPATH": str(package), "HF_DATASETS_CACHE": str(cache)}
        environment.pop("TUNEBOARD_MIRROR", None)
        self.process = subprocess.Popen(
            [sys.executable, str(here / "toy_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, folder: Path, *argv: str, **settings: Any) -> tuple[int, Path]:
        """Start one; ``folder`` takes its output."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {"out": str(folder / "out"), "err": str(folder / "err")}
        return self._ask({"argv": [str(one) for one in argv], **files, **settings}), folder

    def wait(self, started: tuple[int, Path]) -> Ended:
        status = self._ask({"wait": started[0]})
        return Ended(status, *((started[1] / name).read_text() for name in ("out", "err")))

    def __call__(self, folder: Path, *argv: str, **settings: Any) -> Ended:
        return self.wait(self.start(folder, *argv, **settings))

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]
        self.process.wait(30)

    def _ask(self, order: dict[str, Any]) -> int:
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    started = Driver(tmp_path_factory.mktemp("driver"))
    yield started
    started.close()
