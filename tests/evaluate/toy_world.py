"""A world without models: toy tasks, weights that are only hashes, and databases apart from times and ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneboard.store.database import reading, rows_as_dicts

TASKS = Path(__file__).parent / "tasks"
#: Words that fit the context of the fake model: fewer than some requests of every kind have.
ROOM = 7

#: Differs between two runs that compute the same.
_OF_ONE_RUN = {
    "candidates": ("created",),
    "tasks": ("created",),
    "documents": (),
    "cells": ("run_id", "created", "seconds", "tokens_computed", "tokens_reused", "tokens_distinct", "tokens_padded"),
    "metrics": (),
    "samples": (),
    "scores": (),
}


def make_model(folder: Path, weights: str = "base") -> Path:
    """A folder that looks like a model to whoever only hashes it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "toy", "dtype": "float32"}')
    (folder / "model.safetensors").write_text(weights)
    return folder


def make_adapter(folder: Path, weights: str = "adapter", kind: str = "LORA") -> Path:
    """A folder that looks like an adapter to whoever only hashes it."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    (folder / "adapter_model.safetensors").write_text(weights)
    return folder


def texts() -> dict[str, str]:
    """Generations: sums that are right, except for one in three, and German that is nearly right."""
    out = {}
    for i, row in enumerate(_rows("sums_test")):
        found = int(row["answer"]) + (i % 3 == 0)
        out[f"Q: {row['question']}\nA:"] = f" {row['question']} makes {found}\n#### {found}" if i % 2 else f" {found}"
    for i, row in enumerate(_rows("words_test")):
        words = row["target"].split()
        out[f"German: {row['source']}\nEnglish:"] = " " + " ".join(words if i % 2 else [*words[:-1], "maybe"])
    return out


def content(db: Path) -> dict[str, list[Any]]:
    """Everything in a database but run ids, times, seconds and token counts; rows in an order of their own."""
    with reading(db) as connection:
        return {
            table: sorted(
                (
                    {key: value for key, value in row.items() if key not in left_out}
                    for row in rows_as_dicts(connection, f"SELECT * FROM {table}")
                ),
                key=repr,
            )
            for table, left_out in _OF_ONE_RUN.items()
        }


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
