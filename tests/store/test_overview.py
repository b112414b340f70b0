"""What pages that look across candidates get: suites with roles, tags, and what candidates took."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.config import SuiteTask
from tuneboard.errors import StoreError
from tuneboard.gates import Cost
from tuneboard.records import ModelRef, TokenCount
from tuneboard.store.blessing import bless
from tuneboard.store.cells import find_cells
from tuneboard.store.costs import keep_costs
from tuneboard.store.database import reading
from tuneboard.store.overview import all_baselines, asked, efforts
from tuneboard.store.training import TrainingFigures, TrainingStart, TrainingStore
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))

BASE, MINE = build.make_candidate(), build.make_candidate("mine", adapter="a1")


def commit(db: Path, *results: Any, **provenance: Any) -> None:
    store = Store(db)
    store.commit_all(store.start_run(replace(build.make_provenance(), **provenance)), list(results))


def test_a_suite_is_what_its_newest_run_asked(db: Path) -> None:
    old = {"tasks": [{"task": "toy", "role": "guard"}]}
    new = {"tasks": [{"task": "toy", "role": "target", "headline": "acc_norm"}, {"task": "more"}, "no entry"]}
    commit(db, build.make_result(), suite="core", settings=old)
    commit(db, build.make_result(MINE), suite="core", settings=new)
    commit(db, build.make_result(MINE), suite=None, settings=new)
    commit(db, build.make_result(MINE), suite="imported", settings={})

    found = asked(db)

    assert found.suites == {"core": (SuiteTask("toy", role="target", headline="acc_norm"), SuiteTask("more"))}


def test_tags_hold_the_tasks_that_name_them(db: Path) -> None:
    configs = {"one": {"tag": ["animals", "all"]}, "two": {"tag": "animals"}, "three": {}, "four": {"tag": None}}
    results = [
        build.make_result(BASE, replace(build.make_task(name), config={"task": name, **config}))
        for name, config in configs.items()
    ]
    commit(db, *results)

    assert asked(db).tags == {"animals": ("one", "two"), "all": ("one",)}


def figures(seconds: float) -> TrainingFigures:
    return TrainingFigures(10, 1.0, seconds, 1.0, 5000, 0.5, None, None, None, 300, 9000, 0.25, 0, ())


def trained(db: Path, name: str, seconds: float) -> None:
    trainings = TrainingStore(db)
    base = ModelRef("models/tiny", None, "float32", None, "w0")
    begin = TrainingStart(name, f"training of {name} {seconds}", "lora", "causal", base, 1, {}, {}, {}, {})
    trainings.finish(trainings.start(begin), MINE.fingerprint, Path("mine"), figures(seconds), [])


def test_a_candidate_took_what_was_measured_of_it_and_nothing_is_made_up(db: Path) -> None:
    tokens = TokenCount(300, 0, 300, 0, 0)
    commit(db, build.make_result(seconds=2.0, tokens=tokens), build.make_result(MINE, seconds=4.0, tokens=tokens))
    commit(db, build.make_result(build.make_candidate("broken", "w9"), status="failed", samples=(), n=0))
    trained(db, "mine", 50.0)
    trained(db, "mine", 60.0)
    keep_costs(db, "r", {MINE.fingerprint: Cost(1.0, 2.0, 3.0, "old")})
    keep_costs(db, "r", {MINE.fingerprint: Cost(10.0, 0.5, 1.5, "cpu")})

    base, mine = efforts(db)

    assert (base.name, base.evaluation_s, base.evaluation_tokens_per_s) == ("base", 2.0, 150.0)
    assert (base.training_s, base.training_memory_gib, base.tokens_per_s, base.machine) == (None, None, None, None)
    assert (mine.training_s, mine.training_tokens, mine.training_memory_gib) == (60.0, 5000, 0.25)
    assert (mine.tokens_per_s, mine.latency_p95_s, mine.memory_gib, mine.machine) == (10.0, 0.5, 1.5, "cpu")


def test_cells_of_named_candidates_come_without_those_of_others(db: Path) -> None:
    commit(db, *(build.make_result(one) for one in (BASE, MINE, build.make_candidate("other", adapter="a2"))))

    with reading(db) as connection:
        assert {cell.candidate for cell in find_cells(connection, names=["base", "mine"])} == {"base", "mine"}
        assert find_cells(connection, names=["nobody"]) == []


def test_baselines_say_what_they_hold_and_how_they_stand(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit(db, build.make_result())
    assert all_baselines(db) == []
    made, text = bless(db, "base", "main")
    made.path.parent.mkdir(parents=True)
    made.path.write_text(text)
    Path("results/baselines/edited.json").write_text(text.replace('"candidate"', '"candidat"'))

    edited, main = all_baselines(db)

    assert (main["name"], main["candidate"], main["tasks"], main["samples"], main["status"]) == (
        *("main", "base", 1, 10),
        "good",
    )
    assert set(edited) == {"name", "status"} and "edited" in edited["status"]


def test_a_missing_database_is_one_line(db: Path) -> None:
    for ask in (asked, efforts):
        with pytest.raises(StoreError, match="no database at"):
            ask(db)
