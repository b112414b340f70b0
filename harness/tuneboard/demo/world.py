"""The demo's small world, made from a seed: what a base model reads, what candidates are taught, what is held out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.demo.activities import activities
from tuneboard.demo.beliefs import beliefs
from tuneboard.demo.facts import facts
from tuneboard.demo.functions import functions
from tuneboard.demo.parts import Part
from tuneboard.demo.sums import sums

#: Words of the texts that are no invented names but could come out as such.
_USED = {"bread", "bee"}


@dataclass(frozen=True, slots=True)
class World:
    """All parts."""

    seed: int
    parts: tuple[Part, ...]

    def part(self, task: str) -> Part:
        """Return the part that a demo task asks about; ``task`` is its name without ``demo_``."""
        return next(part for part in self.parts if part.task == task)


def make_world(seed: int) -> World:
    """Make the world of a seed, the same each time."""

    def rng(name: str) -> random.Random:
        return random.Random(f"{seed}:{name}")

    taken = set(_USED)
    adding, taking = sums(rng("sums"))
    parts = (
        facts(rng("facts"), taken),
        activities(rng("activities")),
        adding,
        functions(rng("functions")),
        beliefs(rng("beliefs"), taken),
        taking,
    )
    return World(seed, parts)


def replay_texts(world: World, count: int) -> list[str]:
    """Draw old material for replay: of each kind of lessons its share, no text twice.

    Args:
        world: What the base was trained on.
        count: Texts in all; fewer where a kind has not as many.
    """
    rng = random.Random(f"{world.seed}:replay")
    drawn: list[str] = []
    for lessons in (one for part in world.parts for one in part.lessons):
        texts = sorted(set(lessons.texts))
        drawn += rng.sample(texts, min(len(texts), round(lessons.share * count)))
    rng.shuffle(drawn)
    return drawn


def write_items(world: World, folder: Path) -> None:
    """Write the held-out items, ``TASK_test.jsonl`` for each task, as the demo tasks read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in world.parts:
        write_rows(folder / f"{part.task}_test.jsonl", part.items)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as lines of JSON."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
