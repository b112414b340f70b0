from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.report.choice import setting_notes, wider_notes
from tuneboard.store import queries
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "x.duckdb")


def commit(store: Store, *results: object, **settings: object) -> str:
    asked = {"prompts": {}, **settings}
    run = store.start_run(dataclasses.replace(build.make_provenance(), settings=asked, seeds={"fewshot": 1234}))
    for result in results:
        store.commit(run, result)
    return run


def differing(store: Store) -> list[str]:
    runs = {row.id: row for row in queries.runs(store.path)}
    return setting_notes(queries.newest(queries.cells(store.path)), runs)


def test_a_wider_result_behind_the_newest_is_told_with_its_run(store: Store) -> None:
    whole = commit(store, build.make_result(n=10))
    assert wider_notes(queries.cells(store.path)) == []
    commit(store, build.make_result(n=2, documents="first-2"))
    assert wider_notes(queries.cells(store.path)) == [
        f"base on toy: the newest result has 2 documents, that of run {whole} has 10; to see it, add --run {whole}"
    ]
    assert wider_notes(queries.cells(store.path, run=whole)) == []


def test_wider_results_of_one_run_share_a_line_and_a_group_stands_for_its_tasks(store: Store) -> None:
    def results(n: int, documents: str) -> list[object]:
        of_task = [build.make_result(task=build.make_task(name), n=n, documents=documents) for name in ("a", "b")]
        group = build.make_result(
            task=build.make_task("ab"), n=2 * n, documents=documents, samples=(), kind="group", members=("a", "b")
        )
        return [*of_task, group]

    whole = commit(store, *results(10, "all"))
    commit(store, *results(3, "first-3"))
    (note,) = wider_notes(queries.cells(store.path))
    assert note.startswith(f"base on ab: the newest result has 6 documents, that of run {whole} has 20;")


def test_a_failure_does_not_hide_that_there_is_a_result(store: Store) -> None:
    commit(store, build.make_result(n=10))
    commit(store, build.make_result(n=0, documents="x", status="failed", samples=(), metrics=(), reason="no"))
    (note,) = wider_notes(queries.cells(store.path))
    assert "has 0 documents" in note and "has 10" in note


def test_settings_that_differ_between_results_are_told_and_others_are_not(store: Store) -> None:
    tuned = build.make_candidate("tuned", adapter="a1")
    shots = build.make_task(num_fewshot=5)
    commit(store, build.make_result(), prompts={"apply_chat_template": False})
    commit(store, build.make_result(tuned, shots, documents="d" * 9, n=4), prompts={"apply_chat_template": True})
    assert differing(store) == [
        "asked in different ways, documents: all for base; 4 (set dddddd) for tuned",
        "asked in different ways, chat template: no for base; yes for tuned",
    ]


def test_alike_settings_and_runs_that_noted_none_give_no_line(store: Store) -> None:
    commit(store, build.make_result(), limit=3)
    imported = store.start_run(dataclasses.replace(build.make_provenance(), settings={"imported": "out"}, seeds={}))
    store.commit(imported, build.make_result(task=build.make_task("other", num_fewshot=5)))
    assert differing(store) == []
