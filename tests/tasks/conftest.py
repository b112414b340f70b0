from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import toy_mirror

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))

import toy_world

from tuneboard import bundled
from tuneboard.candidates import resolve_adapter, resolve_model
from tuneboard.config import Suite, SuiteTask
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.evaluate import EvaluateRequest, Hooks, evaluate
from tuneboard.records import Candidate, ModelRef


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The index of lm-eval's own tasks is read once for all tests here, and not from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("TUNEBOARD_MIRROR", raising=False)
        yield


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with six made-up rows in every split of every data set."""
    return toy_mirror.write_mirror(tmp_path_factory.mktemp("toys"))


@dataclass(frozen=True)
class World:
    """A base and an adapter that are only hashes, and what a fake engine makes of them."""

    candidates: tuple[Candidate, ...]
    behaviour: Behaviour

    def engine(self) -> FakeEngine:
        """Return an engine with the adapter ``tuned`` attached."""
        engine = FakeEngine(self.candidates[0].model, self.behaviour)
        engine.attach("tuned", self.candidates[1].adapter)
        return engine

    def evaluate(self, tasks: Sequence[str | SuiteTask], mirror: Path, db: Path, **settings: Any) -> Any:
        """Evaluate both candidates."""
        suite = Suite("", "", tuple(SuiteTask(task) if isinstance(task, str) else task for task in tasks))
        request = EvaluateRequest(candidates=self.candidates, suite=suite, db=db, mirror=mirror, **settings)
        return evaluate(request, Hooks(lambda ref, notice: FakeEngine(ref, self.behaviour), Silent()))


class Silent:
    """A listener that keeps nothing."""

    def add(self, candidate: str, task: str, total: int, known: int = 0) -> None: ...

    def ready(self) -> None: ...

    def advance(self, candidate: str, task: str, n: int = 1, tokens: int = 0) -> None: ...

    def done(self, candidate: str, task: str, status: str) -> None: ...

    def note(self, line: str) -> None: ...


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    def make(texts: dict[str, str] | None = None) -> World:
        folder = tmp_path_factory.mktemp("world")
        base: ModelRef = resolve_model(ModelRef(str(toy_world.make_model(folder / "model"))))
        adapter = resolve_adapter(str(toy_world.make_adapter(folder / "tuned")))
        return World((Candidate("base", base), Candidate("tuned", base, adapter)), Behaviour(texts or {}))

    return make


@pytest.fixture(scope="session")
def scorer() -> Callable[[str], ModuleType]:
    """Load the scorer of a family of tasks, as its YAML does."""

    def load(family: str) -> ModuleType:
        path = bundled.tasks_dir() / family / "scorer.py"
        spec = importlib.util.spec_from_file_location(f"{family}_scorer", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
