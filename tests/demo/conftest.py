from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tuneboard.demo import Course, TinySettings, tiny_course, turn
from tuneboard.demo.settings import Teaching
from tuneboard.demo.world import World, make_world

#: Real training, but only a taste of it.
TASTE = (
    Teaching("skill", "LoRA", {"name": "lora", "rank": 2}, 2, 1e-3),
    Teaching("replay", "LoRA with old texts", {"name": "lora", "rank": 2}, 2, 1e-3, replay=True),
    Teaching("full", "all weights", {"name": "full"}, 2, 1e-3),
)
FAST = TinySettings(
    hidden_size=64, layers=2, steps=4, batch=2, block=64, checkpoint_every=2, replay=100, candidates=TASTE
)
SEED = 7


class Quiet:
    """Hears everything and says nothing; ``at`` is called before each step and note."""

    def __init__(self, at: Callable[[str], None] = lambda what: None) -> None:
        self.at, self.name, self.lines = at, "", list[str]()

    def begin(self, name: str, number: int, count: int) -> None:
        self.name = name
        self.lines.append(f"{number} of {count}: {name}")

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.at(f"{self.name} {step}")

    def note(self, line: str) -> None:
        self.lines.append(line)


def make(db: Path, listener: Quiet | None = None, seed: int = SEED, settings: TinySettings = FAST) -> Course:
    listener = listener or Quiet()
    with turn(db, listener) as folder:
        return tiny_course(folder, db, seed, listener, settings)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(SEED)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database beside which a demo lies."""
    db = tmp_path_factory.mktemp("demo") / "kept.duckdb"
    make(db)
    return db


@pytest.fixture(scope="session")
def fast() -> TinySettings:
    return FAST


@pytest.fixture(scope="session")
def listener() -> type[Quiet]:
    return Quiet


@pytest.fixture(scope="session")
def course_of() -> Callable[..., Course]:
    return make
