"""The recipes of the demo's candidates, written as files that ``tuneboard tune`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneboard.demo.settings import REAL, Teaching, TinySettings

#: Small and public: film reviews in the words of lm-eval's task `sst2`, and articles of Wikipedia against forgetting.
_REVIEWS: Mapping[str, Any] = {
    "path": "nyu-mll/glue",
    "config": "sst2",
    "format": "label",
    "columns": {"text": "sentence"},
    "template": "{sentence}\nQuestion: Is this sentence positive or negative?\nAnswer:",
    "labels": {"0": "negative", "1": "positive"},
    "limit": 1000,
}
_ARTICLES: Mapping[str, Any] = {
    "path": "EleutherAI/wikitext_document_level",
    "config": "wikitext-2-v1",
    "split": "validation",
    "format": "text",
    "columns": {"text": "page"},
    "limit": 12,
    "replay": True,
}


def write_tiny_recipes(place: Path, prefix: str, suffix: str, settings: TinySettings) -> dict[str, Path]:
    """Write the recipes of the tiny base's candidates.

    Args:
        place: The demo's folder, with ``base`` and ``world`` in it; recipes go to ``recipes``.
        prefix: First part of the candidates' names.
        suffix: Last part of them.
        settings: How long to train.

    Returns:
        Candidate's name to recipe.
    """
    skill = {"path": "../world/skill.jsonl", "format": "completion"}
    old = {"path": "../world/old.jsonl", "format": "text", "replay": True}
    paths: dict[str, Path] = {}
    for one in settings.candidates:
        name = f"{prefix}-{one.name}{suffix}"
        recipe = {
            "name": name,
            "description": f"{one.says}; made by tuneboard demo.",
            "base": str((place / "base").resolve()),
            "method": dict(one.method),
            "data": {
                "sources": [skill, old] if one.replay else [skill],
                "split": {"fraction": 0.05},
                # Word problems are alike by their nature.
                "cleaning": {"near_duplicates": None},
                # What is held out stands in no text: the world is made so, and this checks it.
                "leaks": {"policy": "refuse"},
                "max_length": 96,
            },
            "training": _training(one, batch_size=12),
        }
        paths[name] = _written(place / "recipes", one.name, recipe)
    return paths


def write_real_recipes(place: Path, model: str, prefix: str, suffix: str) -> dict[str, Path]:
    """Write the recipes of candidates of a real base, on small real data.

    Args:
        place: The demo's folder; recipes go to ``recipes``.
        model: Folder or hub id of the base.
        prefix: First part of the candidates' names.
        suffix: Last part of them.

    Returns:
        Candidate's name to recipe.
    """
    folder = Path(model).expanduser()
    paths: dict[str, Path] = {}
    for one in REAL:
        name = f"{prefix}-{one.name}{suffix}"
        recipe = {
            "name": name,
            "description": f"{one.says}; made by tuneboard demo.",
            "base": str(folder.resolve()) if folder.is_dir() else model,
            "kind": "causal",
            "method": dict(one.method),
            "data": {
                "sources": [dict(_REVIEWS), dict(_ARTICLES)] if one.replay else [dict(_REVIEWS)],
                "split": {"fraction": 0.05},
                "max_length": 256,
            },
            "training": _training(one, batch_size=4),
        }
        paths[name] = _written(place / "recipes", one.name, recipe)
    return paths


def _training(one: Teaching, batch_size: int) -> dict[str, Any]:
    return {
        "max_steps": one.steps,
        "batch_size": batch_size,
        "learning_rate": one.learning_rate,
        "validate_every": max(1, one.steps // 4),
        "checkpoint_every": max(1, one.steps // 4),
    }


def _written(folder: Path, name: str, recipe: Mapping[str, Any]) -> Path:
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    text = "# Written by tuneboard demo; every key is explained in the shipped recipe `lora` (tuneboard show lora).\n"
    path.write_text(text + yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
    return path
