"""An evaluation that is killed at any moment goes on where it was, and ends with what an undisturbed one has."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuneboard.store import queries

TASKS = "toy_quizzes,toy_mc1,toy_mc2,toy_sums"
#: Requests that the fake engine computes together before it answers the first of them.
BATCH = 8

KILLS: dict[str, dict[str, Any]] = {
    "before the first byte of the journal": {"journal_bytes": 0},
    "after one byte": {"journal_bytes": 1},
    "inside the first checksum": {"journal_bytes": 5},
    "inside the first hash": {"journal_bytes": 57},
    "inside a line far in": {"journal_bytes": 4321},
    "further in": {"journal_bytes": 9000},
    "near the end": {"journal_bytes": 17000},
    "recording the first task": {"at": "recording"},
    "after recording": {"at": "recorded", "n": 4},
    "loading": {"at": "loading"},
    "loaded": {"at": "loaded"},
    "making the database": {"at": "making the database"},
    "before the run is begun": {"at": "before start_run"},
    "after the run is begun": {"at": "after start_run"},
    "before the first commit": {"at": "before commit"},
    "inside a transaction": {"at": "INSERT INTO samples", "n": 2},
    "just before a COMMIT": {"at": "before COMMIT", "n": 4},
    "1 ms into a COMMIT": {"at": "during COMMIT 1", "n": 4},
    "4 ms into a COMMIT": {"at": "during COMMIT 4", "n": 5},
    "just after a commit": {"at": "after commit"},
    "just after a later commit": {"at": "after commit", "n": 4},
    "between two cells": {"at": "after a cell", "n": 3},
    "before the groups": {"at": "before commit", "n": 11},
    "while complete cells wait to be committed": {"at": "after a cell", "n": 5, "flush_s": 60.0},
    "between many cells in one transaction": {"at": "INSERT INTO samples", "n": 4, "flush_s": 60.0},
    "before the run is finished": {"at": "before finish_run"},
    "after all": {"at": "after finish_run"},
}
EVERYDAY = ("inside a line far in", "just before a COMMIT", "just after a commit")


@dataclass
class Place:
    """A database with candidates beside it."""

    driver: Any
    world: Any
    root: Path

    def __post_init__(self) -> None:
        # Equal in every place, for the path of a model is part of what is compared.
        self.world.make_model(self.root / "model")
        self.world.make_adapter(self.root / "a")

    @property
    def db(self) -> Path:
        return self.root / "results.duckdb"

    def run(self, **settings: Any) -> Any:
        arguments = ["evaluate", "--model", self.root / "model", "--adapter", f"a={self.root / 'a'}", "--tasks", TASKS]
        arguments += ["--include-path", self.world.TASKS, "--db", self.db, "--json", "--quiet"]
        return self.driver(self.root / "output", *arguments, log=str(self.root / "log"), **settings)

    def computed(self) -> Counter[str]:
        return Counter((self.root / "log").read_text().split())

    def content(self) -> Any:
        found = self.world.content(self.db)
        for row in found["candidates"]:
            for key in ("model_id", "adapter_path"):
                row[key] = row[key] and Path(row[key]).name
        return found

    def leftovers(self) -> list[Path]:
        folder = self.root / "results.duckdb.journal"
        return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="module")
def undisturbed(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    import toy_world

    place = Place(driver, toy_world, tmp_path_factory.mktemp("undisturbed"))
    ended = place.run()
    assert (ended.code, ended.err) == (0, "")
    assert set(place.computed().values()) == {1}
    cut = [row["tokens_truncated"] for row in place.content()["cells"] if row["kind"] == "task"]
    assert all(cut) and sum(cut) < len(place.computed()), "which requests are cut must be known after a kill too"
    return place


@pytest.fixture
def place(driver: Any, world: Any, tmp_path: Path) -> Place:
    return Place(driver, world, tmp_path)


def check_killed_and_resumed(place: Place, undisturbed: Place, kill: dict[str, Any]) -> None:
    ended = place.run(**kill)
    assert ended.killed, ended
    again = place.run()
    assert (again.code, again.err) == (0, "")
    assert place.content() == undisturbed.content()
    computed = place.computed()
    assert computed.keys() == undisturbed.computed().keys()
    assert sum(computed.values()) - len(computed) <= BATCH
    assert place.leftovers() == []


@pytest.mark.parametrize("moment", EVERYDAY)
def test_a_killed_evaluation_goes_on_where_it_was(place: Place, undisturbed: Place, moment: str) -> None:
    check_killed_and_resumed(place, undisturbed, KILLS[moment])


@pytest.mark.accept
@pytest.mark.parametrize("moment", [moment for moment in KILLS if moment not in EVERYDAY])
def test_a_kill_at_any_other_moment_loses_nothing_either(place: Place, undisturbed: Place, moment: str) -> None:
    check_killed_and_resumed(place, undisturbed, KILLS[moment])


@pytest.mark.accept
def test_one_kill_after_the_other_still_ends_with_the_same_database(place: Place, undisturbed: Place) -> None:
    kills = 0
    for spec in (
        {"journal_bytes": 700},
        {"journal_bytes": 900},
        {"at": "before COMMIT", "n": 2},
        {"at": "after commit"},
    ):
        kills += place.run(**spec).killed
    assert kills == 4
    assert place.run().code == 0
    assert place.content() == undisturbed.content()
    assert sum(place.computed().values()) - len(place.computed()) <= kills * BATCH
    assert place.leftovers() == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_is_one_line_and_nothing_is_lost(place: Place, undisturbed: Place, name: str) -> None:
    ended = place.run(journal_bytes=6000, kill_with=name)
    assert (ended.code, ended.out) == (130, "")
    kept = r"\d+ of 10 results, \d+ of \d+ requests are kept in \S+results\.duckdb and the journals beside it"
    assert re.fullmatch(rf"tuneboard: interrupted; {kept}; the same command goes on from there\n", ended.err), ended.err
    if place.db.exists():
        assert {run.status for run in queries.runs(place.db)} <= {"interrupted"}
    again = place.run()
    assert again.code == 0
    assert place.content() == undisturbed.content()
    assert sum(place.computed().values()) - len(place.computed()) <= BATCH
    assert place.leftovers() == []


def test_an_interrupt_before_the_first_answer_says_so(place: Place) -> None:
    ended = place.run(at="loading", kill_with="SIGTERM")
    line = "tuneboard: interrupted; nothing new was answered yet; the same command starts where this one did\n"
    assert (ended.code, ended.err, ended.out) == (130, line, "")
