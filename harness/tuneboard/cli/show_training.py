"""What ``tuneboard show`` says about recipes and trainings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneboard.store.trainings import TrainingRow

#: Rows of a curve that a table shows; the JSON has them all.
_MOST_POINTS = 12


def recipes() -> list[dict[str, Any]]:
    """Return the shipped recipes, by name."""
    import yaml

    from tuneboard import bundled

    rows = []
    for path in sorted(bundled.recipes_dir().glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        method = content["method"]
        rows.append(
            {
                "recipe": path.stem,
                "method": method["name"] if isinstance(method, dict) else method,
                "description": content.get("description", ""),
                "path": str(path),
            }
        )
    return rows


def trainings(db: Path) -> list[dict[str, Any]]:
    """Return all trainings, newest first."""
    from tuneboard.store.trainings import find_trainings

    return [
        {
            "training": row.id,
            "candidate": row.name,
            "status": row.status,
            "method": row.method,
            "base": row.base_id,
            "steps": row.figures.steps if row.figures else None,
            "first": _rounded(row.figures.first_validation_loss if row.figures else None),
            "best": _rounded(row.figures.validation_loss if row.figures else None),
            "seconds": _rounded(row.figures.seconds if row.figures else None, 1),
        }
        for row in find_trainings(db)
    ]


def training_ids(db: Path) -> list[str]:
    """Return the ids of all trainings."""
    from tuneboard.store.trainings import find_trainings

    return [row.id for row in find_trainings(db)]


def made_by(db: Path, candidate: str) -> str | None:
    """Return the id of the training that made the weights of this fingerprint, if one did."""
    from tuneboard.store.trainings import find_trainings

    return next((row.id for row in find_trainings(db, candidate=candidate)), None)


def training_facts(db: Path, run_id: str) -> dict[str, Any]:
    """Return all that is known of a training, for JSON.

    Args:
        db: The database file.
        run_id: Id of a training that is there.
    """
    from tuneboard.store.trainings import find_trainings, training_curve

    (row,) = [one for one in find_trainings(db) if one.id == run_id]
    curve: dict[str, list[list[float | None]]] = {}
    for step, _, name, value in training_curve(db, run_id):
        curve.setdefault(name, []).append([step, value])
    return {**_facts(row), "recipe": row.recipe, "data": row.data, "versions": row.versions, "curve": curve}


def training_text(db: Path, run_id: str) -> str:
    """Return a training for people: facts, data, and losses along the way."""
    from tuneboard.report.made import data_table
    from tuneboard.report.tables import format_table, harmless, one_line

    facts = training_facts(db, run_id)
    pairs = {key: value for key, value in facts.items() if key not in ("recipe", "data", "versions", "curve")}
    width = max(map(len, pairs))
    known = {key: value for key, value in pairs.items() if value not in (None, (), [], {})}
    lines = [one_line(f"{key:{width}}  {_text(value)}") for key, value in known.items()]
    blocks = ["\n".join(lines), data_table(facts["data"])]
    names = [name for name in ("validation_loss", "loss", "learning_rate", "tokens_per_s") if name in facts["curve"]]
    if names:
        by_step: dict[float | None, dict[str, float | None]] = {}
        for name in names:
            for step, value in facts["curve"][name]:
                by_step.setdefault(step, {})[name] = value
        steps = _spread(sorted(by_step, key=lambda step: step or 0), "validation_loss", by_step)
        rows = [[f"{step:,}", *(_figure(by_step[step].get(name)) for name in names)] for step in steps]
        blocks.append(format_table(["step", *names], rows, "r" * (len(names) + 1)))
    return harmless("\n\n".join(blocks))


def _facts(row: TrainingRow) -> dict[str, Any]:
    from dataclasses import asdict

    figures = asdict(row.figures) if row.figures else {}
    return {
        "training": row.id,
        "candidate": row.name,
        "status": row.status,
        "reason": row.reason,
        "started": f"{row.started:%Y-%m-%d %H:%M:%S}Z",
        "command": row.command,
        "git_commit": row.git_commit,
        "method": row.method,
        "kind": row.kind,
        "base": row.base_id + (f"@{row.base_revision}" if row.base_revision else ""),
        "seed": row.seed,
        "folder": row.folder,
        "fingerprint": row.fingerprint,
        "hardware": row.hardware,
        **figures,
    }


def _spread(steps: list[Any], wanted: str, by_step: dict[Any, dict[str, Any]]) -> list[Any]:
    """Choose steps to show: those with the wanted value first, evenly over all."""
    chosen = [step for step in steps if wanted in by_step[step]] or steps
    if len(chosen) <= _MOST_POINTS:
        return chosen
    return [chosen[round(place * (len(chosen) - 1) / (_MOST_POINTS - 1))] for place in range(_MOST_POINTS)]


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def _figure(value: float | None) -> str | None:
    return None if value is None else _shown(value, 4)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else _shown(value, 6) if isinstance(value, float) else str(value)


def _shown(value: float, digits: int) -> str:
    from tuneboard.report.numbers import number

    return f"{value:.{digits}g}" if math.isfinite(value) else number(value)
