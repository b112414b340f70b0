"""A folder with data and recipes for tiny models, and a listener that remembers; for tests of the whole stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

THINGS = ("ball", "cat", "dog", "house", "tree", "car", "boat", "star")
COLOURS = ("red", "green", "blue", "black", "white", "brown", "grey", "pink")


@dataclass
class Ear:
    """Remembers what it is told; interrupts at a step, or does something else there, if asked."""

    stop_at: int | None = None
    at: Mapping[int, Callable[[], Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def begin(self, name: str, number: int, count: int) -> None:
        self.begun.append(f"{name} {number}/{count}")

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.steps.append(step)
        if step in self.at:
            self.at[step]()
        if step == self.stop_at:
            raise KeyboardInterrupt

    def note(self, line: str) -> None:
        self.notes.append(line)


@dataclass
class Workshop:
    """Where a recipe, its data, its database and its candidates are."""

    root: Path
    models: Mapping[str, Path]

    @property
    def db(self) -> Path:
        return self.root / "x.duckdb"

    @property
    def out(self) -> Path:
        return self.root / "trained"

    def recipe(self, model: str = "llama", **changes: Any) -> Path:
        """Write a recipe that takes a second; ``changes`` win, key by key with ``__`` for the dots."""
        data = "labels.jsonl" if model == "bert" else "train.jsonl"
        content: dict[str, Any] = {
            "name": "mine",
            "base": str(self.models[model]),
            "method": {"name": "lora", "rank": 4},
            "data": {"sources": data, "max_length": 64, "cleaning": {"near_duplicates": None}},
            "training": {"epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "batching": "grouped"},
        }
        for key, value in changes.items():
            *path, last = key.split("__")
            here = content
            for part in path:
                here = here[part]
            here[last] = value
        path = self.root / "recipe.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def tune(self, recipe: Path | None = None, ear: Ear | None = None, **given: Any) -> Any:
        from tuneboard.tuning.tune import TuneRequest, tune

        request = TuneRequest(**{"path": recipe or self.recipe(), "db": self.db, "out": self.out, **given})
        return tune(request, ear or Ear())

    def provenance(self, name: str = "mine") -> dict[str, Any]:
        return json.loads((self.out / name / "provenance.json").read_text(encoding="utf-8"))


def write_data(folder: Path) -> None:
    """Questions with answers, and texts with labels, that a tiny model can learn."""
    rows = [
        {"prompt": f"What colour is the {THINGS[i % 8]} number {i}?", "completion": COLOURS[i % 8]} for i in range(40)
    ]
    labels = [
        {"text": f"{COLOURS[i % 2]} {THINGS[i % 8]} number {i}", "label": "odd" if i % 2 else "even"} for i in range(40)
    ]
    for name, content in (("train", rows), ("labels", labels)):
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def make_workshop(folder: Path, tiny_model: Any) -> Workshop:
    """Write data into a folder and models beside it."""
    write_data(folder)
    return Workshop(folder, {kind: tiny_model(kind) for kind in ("llama", "bert", "t5")})
