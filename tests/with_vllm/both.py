"""Both engines through the same command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.store.database import reading


def device() -> str:
    """Where the installed vLLM runs."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class World:
    """A base with adapters, and a folder for what is made of them."""

    base: Path
    adapters: dict[str, Path]
    folder: Path

    @property
    def candidates(self) -> list[str]:
        return ["--model", str(self.base), *(w for n, p in self.adapters.items() for w in ("--adapter", f"{n}={p}"))]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tuneboard", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def tuneboard(*arguments: str | Path, code: int = 0) -> str:
    """Run the command in this process, where the libraries are imported already; returns what it printed."""
    from tuneboard.cli.main import main

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        found = main([*map(str, arguments)])
    assert found == code, errors.getvalue()[-4000:]
    return out.getvalue()


@dataclass(frozen=True)
class Outcome:
    """What one engine found."""

    cells: list[dict[str, Any]]
    db: Path
    content: dict[str, Any]

    @property
    def metrics(self) -> dict[tuple[str, str, str], float]:
        return {
            (cell["candidate"], cell["task"], f"{row['metric']},{row['filter']}"): row["value"]
            for cell in self.cells
            for row in cell["metrics"]
        }

    def responses(self) -> dict[tuple[str, str, int], list[Any]]:
        """Every response by candidate, task and document."""
        with reading(self.db) as connection:
            rows = connection.execute(
                "SELECT candidates.name, cells.task, doc_id, responses FROM samples"
                " JOIN cells ON cells.id = cell_id JOIN candidates ON fingerprint = candidate_fingerprint"
            ).fetchall()
        return {(name, task, doc_id): json.loads(found) for name, task, doc_id, found in rows}


def evaluate(db: Path, engine: str, candidates: Sequence[str], *more: str | Path) -> Outcome:
    """Evaluate with one engine into a database."""
    words = ["evaluate", *candidates, "--engine", engine, "--device", device(), "--db", db, "--json", "--quiet", *more]
    content = json.loads(tuneboard(*words))
    assert all(cell["status"] == "done" and not cell["failed"] for cell in content["cells"]), content["cells"]
    return Outcome(content["cells"], db, content)


def largest_difference(ours: Outcome, theirs: Outcome) -> tuple[float, int]:
    """Largest difference of a log-probability, and how many greedy flags and texts differ."""
    a, b = ours.responses(), theirs.responses()
    assert a.keys() == b.keys() and a
    largest, other = 0.0, 0
    for key, mine in a.items():
        for one, two in zip(mine, b[key], strict=True):
            if isinstance(one, str):
                other += one != two
            else:
                largest = max(largest, abs(one[0] - two[0]))
                other += one[1] != two[1]
    return largest, other
