"""Several evaluations write one database while others read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneboard.store import queries

#: Tasks of four evaluations that overlap: some results are wanted by several at once, some by one alone.
WANTED = ("toy_mc1,toy_legs", "toy_quizzes,toy_sums", "toy_sums,toy_mc2,toy_words", "toy_school,toy_tales")


def test_four_evaluations_and_two_readers_lose_nothing_and_see_no_error(
    driver: Any, world: Any, tmp_path: Path
) -> None:
    model, a = world.make_model(tmp_path / "model"), world.make_adapter(tmp_path / "a")
    stop = tmp_path / "stop"

    def arguments(db: Path, tasks: str) -> list[Any]:
        given = ["evaluate", "--model", model, "--adapter", f"a={a}", "--tasks", tasks, "--include-path", world.TASKS]
        return [*given, "--db", db, "--quiet"]

    alone, shared = tmp_path / "alone.duckdb", tmp_path / "shared.duckdb"
    for tasks in WANTED:
        assert driver(tmp_path / "alone", *arguments(alone, tasks)).code == 0
    assert driver(tmp_path / "first", *arguments(shared, "toy_mc1")).code == 0

    readers = [
        driver.start(tmp_path / f"reader{i}", "show", what, "--db", shared, until=str(stop))
        for i, what in enumerate(("runs", "base"))
    ]
    writers = [
        driver.start(tmp_path / f"writer{i}", *arguments(shared, tasks), pass_s=0.02) for i, tasks in enumerate(WANTED)
    ]
    ends = [driver.wait(one) for one in writers]
    stop.touch()
    looks = [driver.wait(one) for one in readers]

    assert [(end.code, end.err) for end in ends + looks] == [(0, "")] * 6
    assert all(len(look.out.splitlines()) > 20 for look in looks)
    assert world.content(shared) == world.content(alone)
    runs = queries.runs(shared)
    assert [run.status for run in runs] == ["done"] * 5
    assert sorted(sum(run.statuses.values()) for run in runs) == [2, 4, 6, 8, 12]
    assert list((tmp_path / "shared.duckdb.journal").iterdir()) == []
