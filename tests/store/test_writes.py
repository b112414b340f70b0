from __future__ import annotations

import dataclasses
import math
import re
import runpy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.errors import NameTaken, StoreError, UnknownName
from tuneboard.records import MetricValue, TaskResult
from tuneboard.store import queries
from tuneboard.store.database import reading
from tuneboard.store.journal import Journal, journal_folder, read_answers
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))


def new_run(db: Path) -> tuple[Store, str]:
    store = Store(db)
    return store, store.start_run(build.make_provenance())


def count(db: Path, table: str) -> int:
    with reading(db) as connection:
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
    return int(number)


def stored(result: TaskResult, **changes: Any) -> TaskResult:
    return dataclasses.replace(result, samples=(), **changes)


def test_constructing_and_asking_makes_no_file(db: Path) -> None:
    store = Store(db)
    assert store.find(build.make_result().key) is None
    assert store.answers("scope") == {}
    assert not db.parent.exists()


def test_a_committed_cell_is_found_with_everything_but_its_samples(db: Path) -> None:
    store, run = new_run(db)
    result = build.make_result(build.make_candidate("tuned", adapter="a1"))
    assert store.commit(run, result) is True
    assert store.find(result.key) == stored(result)
    other = dataclasses.replace(result.key, dtype="bfloat16")
    assert store.find(other) is None


def test_a_run_is_recorded_from_start_to_finish(db: Path) -> None:
    store, run = new_run(db)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run)
    (row,) = queries.runs(db)
    assert (row.id, row.status, row.finished, row.seconds) == (run, "running", None, None)
    store.commit(run, build.make_result())
    store.finish_run(run, "done", 12.5)
    (row,) = queries.runs(db)
    assert row.finished is not None and row.finished >= row.started
    assert (row.status, row.seconds, row.suite, row.seeds) == ("done", 12.5, "quick", {"python": 0})
    assert (row.candidates, row.statuses, row.settings) == (("base",), {"done": 1}, {"limit": 10})


def test_committing_twice_changes_nothing_but_the_runs_use_of_the_cell(db: Path) -> None:
    store, first = new_run(db)
    result = build.make_result()
    assert store.commit(first, result) is True
    second = store.start_run(build.make_provenance())
    other = dataclasses.replace(result, metrics=(), samples=(), n=0)
    assert store.commit(second, other) is False
    assert store.commit(first, other) is False
    assert store.find(result.key) == stored(result)
    assert (count(db, "samples"), count(db, "scores"), count(db, "documents"), count(db, "metrics")) == (10, 20, 10, 2)
    assert [cell.status for cell in queries.cells(db, run=first)] == ["done"]
    assert [cell.status for cell in queries.cells(db, run=second)] == ["reused"]


def test_a_reused_cell_is_linked_to_the_run_that_reuses_it(db: Path) -> None:
    store, first = new_run(db)
    result = build.make_result()
    store.commit(first, result)
    second = store.start_run(build.make_provenance())
    found = store.find(result.key)
    assert found is not None
    store.link(second, found)
    (cell,) = queries.cells(db, run=second)
    assert (cell.status, cell.run) == ("reused", first)
    with pytest.raises(StoreError, match="not there to be reused"):
        store.link(second, build.make_result(documents="others"))


@pytest.mark.parametrize("status", ["failed", "invalid"])
def test_an_unfinished_cell_is_not_found_and_is_replaced(db: Path, status: str) -> None:
    store, run = new_run(db)
    bad = build.make_result(status=status, reason="out of memory", n=4)
    assert store.commit(run, bad) is True
    assert store.find(bad.key) is None
    assert store.answers(bad.key.scope) == {}
    good = build.make_result()
    assert store.commit(run, good) is True
    assert store.find(good.key) == stored(good)
    assert (count(db, "cells"), count(db, "samples"), count(db, "metrics")) == (1, 10, 2)
    assert store.commit(run, bad) is False
    assert store.find(good.key) == stored(good)


def test_a_failed_attempt_of_an_earlier_run_is_not_shown_as_the_later_runs_success(db: Path) -> None:
    store, first = new_run(db)
    store.commit(first, build.make_result(status="failed", samples=(), metrics=(), n=0, reason="killed"))
    second = store.start_run(build.make_provenance())
    store.commit(second, build.make_result())
    assert queries.results(db, run=first) == []
    assert [result.status for result in queries.results(db, run=second)] == ["done"]


def test_a_larger_limit_reuses_the_answers_of_a_smaller_one(db: Path) -> None:
    store, run = new_run(db)
    small = build.make_result(n=4, documents="first-4")
    large = build.make_result(n=10)
    store.commit(run, small)
    assert small.key.scope == large.key.scope
    answers = store.answers(large.key.scope)
    expected = {h: r for s in large.samples[:4] for h, r in zip(s.request_hashes, s.responses, strict=True)}
    assert answers == expected and len(answers) == 16
    assert all(isinstance(answer, tuple) for answer in answers.values())
    store.commit(run, large)
    assert count(db, "documents") == 10
    assert len(store.answers(large.key.scope)) == 40


def test_many_cells_are_found_and_linked_in_one_look(db: Path) -> None:
    store, first = new_run(db)
    results = [build.make_result(task=build.make_task(f"t{i}")) for i in range(3)]
    for result in results[:2]:
        store.commit(first, result)
    store.commit(first, dataclasses.replace(results[2], status="failed"))
    found = store.find_all([result.key for result in results])
    assert found == {result.key: stored(result) for result in results[:2]}
    assert store.scopes() == {result.key.scope for result in results[:2]}
    second = store.start_run(build.make_provenance())
    store.link_all(second, list(found.values()))
    assert [cell.status for cell in queries.cells(db, run=second)] == ["reused", "reused"]
    assert Store(db.with_name("none.duckdb")).find_all([results[0].key]) == {}
    assert Store(db.with_name("none.duckdb")).scopes() == frozenset()


def test_several_results_are_committed_together_or_not_at_all(db: Path) -> None:
    store, run = new_run(db)
    results = [build.make_result(task=build.make_task(f"t{i}")) for i in range(3)]
    store.commit(run, results[0])
    assert store.commit_all(run, results) == [False, True, True]
    assert store.commit_all(run, []) == []
    assert (count(db, "cells"), count(db, "samples"), count(db, "documents")) == (3, 30, 30)
    store.register(build.make_candidate("tuned", adapter="a1"))
    good = build.make_result(build.make_candidate("good", adapter="a3"))
    taken = build.make_result(build.make_candidate("tuned", adapter="a2"))
    with pytest.raises(NameTaken):
        store.commit_all(run, [good, taken])
    assert store.find(good.key) is None


def test_a_taken_name_is_refused_before_anything_is_computed(db: Path) -> None:
    store = Store(db)
    store.check(build.make_candidate("tuned", adapter="a1"))
    assert not db.exists()
    store.register(build.make_candidate("tuned", adapter="a1"))
    store.check(build.make_candidate("tuned", adapter="a1"))
    with pytest.raises(NameTaken, match="tuneboard rename tuned"):
        store.check(build.make_candidate("tuned", adapter="a2"))


def test_documents_are_stored_once_for_all_candidates(db: Path) -> None:
    store, run = new_run(db)
    for name in ("a", "b", "c"):
        store.commit(run, build.make_result(build.make_candidate(name, adapter=name)))
    assert (count(db, "documents"), count(db, "samples"), count(db, "tasks")) == (10, 30, 1)


def test_failed_samples_keep_their_reason_and_give_no_answer(db: Path) -> None:
    store, run = new_run(db)
    samples = list(build.make_samples(build.make_candidate(), 3))
    samples[1] = dataclasses.replace(
        samples[1], responses=(None,) * 4, status="failed", reason="CUDA error", metrics={}
    )
    result = build.make_result(samples=tuple(samples), n=2, failed=1)
    store.commit(run, result)
    assert len(store.answers(result.key.scope)) == 8
    failed = list(queries.samples(db, "base", "toy"))[1]
    assert (failed["status"], failed["reason"]) == ("failed", "CUDA error")
    assert failed["responses"] == [None] * 4
    assert failed["metrics"] == {"acc": None, "acc_norm": None}


def test_odd_values_come_back_exactly(db: Path) -> None:
    store, run = new_run(db)
    (sample,) = build.make_samples(build.make_candidate(), 1)
    text = "half a pair \ud83d, a zero \0, a quote ' and\nlines"
    odd = dataclasses.replace(
        sample,
        request_hashes=("h1", "h2", "h3"),
        responses=(text, (-math.inf, False), 0.1 + 0.2),
        metrics={"none": {"bleu": (["reference"], text), "ppl": math.nan, "weight": 7, "right": True}},
        filtered={"none": [text, None]},
        document=dataclasses.replace(sample.document, prompt=text, target=text),
    )
    metric = MetricValue("ppl", "none", math.inf, None, None, False)
    result = build.make_result(samples=(odd,), n=1, metrics=(metric,), reason=text)
    store.commit(run, result)
    assert store.answers(result.key.scope) == {"h1": text, "h2": (-math.inf, False), "h3": 0.1 + 0.2}
    (row,) = queries.samples(db, "base", "toy")
    assert row["responses"] == [text, [-math.inf, False], 0.1 + 0.2]
    assert row["filtered"] == [text, None]
    metrics = row["metrics"]
    assert metrics["bleu"] == [["reference"], text]
    assert math.isnan(metrics["ppl"]) and (metrics["weight"], metrics["right"]) == (7.0, 1.0)
    # Columns of plain text hold what UTF-8 can hold.
    assert row["target"] == text.replace("\ud83d", "\\ud83d")
    (found,) = queries.results(db)
    assert found.metrics == (metric,)


def test_groups_are_cells_without_samples(db: Path) -> None:
    store, run = new_run(db)
    group = build.make_result(task=build.make_task("mmlu"), kind="group", samples=(), n=20, members=("m_a", "m_b"))
    store.commit(run, group)
    assert store.find(group.key) == group


def test_a_name_is_bound_to_its_weights_and_the_error_has_the_command_that_frees_it(db: Path) -> None:
    store, run = new_run(db)
    store.register(build.make_candidate("tuned", adapter="a1"))
    store.register(build.make_candidate("tuned", adapter="a1"))
    other = build.make_candidate("tuned", adapter="a2")
    for use in (lambda: store.register(other), lambda: store.commit(run, build.make_result(other))):
        with pytest.raises(
            NameTaken, match=r"'tuned' is bound to other weights.*tuneboard rename tuned NEW-NAME --db"
        ) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert count(db, "cells") == 0
    store.rename("tuned", "tuned-1")
    assert store.commit(run, build.make_result(other)) is True
    assert [row.name for row in queries.models(db)] == ["tuned-1", "tuned"]


def test_results_stay_with_the_weights_whatever_they_are_called(db: Path) -> None:
    store, run = new_run(db)
    result = build.make_result(build.make_candidate("old", adapter="a1"))
    store.commit(run, result)
    store.rename("old", "new")
    found = store.find(result.key)
    assert found is not None and found.candidate.name == "new"
    store.register(result.candidate)
    assert {cell.candidate for cell in queries.cells(db)} == {"old", "new"}
    assert len(queries.results(db, candidate="old")) == 1
    store.rename("old", "new")
    assert [row.name for row in queries.models(db)] == ["new"]
    store.register(build.make_candidate("taken", adapter="a2"))
    with pytest.raises(NameTaken, match="'taken' is bound to other weights"):
        store.rename("new", "taken")
    with pytest.raises(UnknownName, match=r"unknown candidate 'nev'; did you mean new\?"):
        store.rename("nev", "x")


def test_renaming_in_a_missing_database_makes_none(db: Path) -> None:
    with pytest.raises(StoreError, match="no database at"):
        Store(db).rename("a", "b")
    assert not db.exists()


def test_a_key_of_other_weights_or_another_task_is_refused(db: Path) -> None:
    store, run = new_run(db)
    result = build.make_result()
    for wrong in ({"candidate": build.make_candidate("x", "w9")}, {"task": build.make_task("y")}):
        with pytest.raises(ValueError, match="key names another"):
            store.commit(run, dataclasses.replace(result, **wrong))


def test_a_writer_killed_inside_its_transaction_leaves_nothing_of_it(db: Path, start) -> None:
    store, run = new_run(db)
    kept = build.make_result()
    store.commit(run, kept)
    process = start(
        """
import tuneboard.store.inserts as inserts
db, run = Path(sys.argv[1]), sys.argv[2]
inserts.link_cell = lambda *_: die()
Store(db).commit(run, build.make_result(build.make_candidate("late", adapter="a9"), n=5000))
""",
        db,
        run,
    )
    assert process.wait(timeout=60) == -9
    assert store.find(kept.key) == stored(kept)
    assert [row.name for row in queries.models(db)] == ["base"]
    assert (count(db, "samples"), count(db, "documents")) == (10, 10)
    late = build.make_result(build.make_candidate("late", adapter="a9"), n=50)
    assert store.commit(run, late) is True
    assert (count(db, "samples"), count(db, "documents")) == (60, 50)


def test_answers_outlive_a_process_killed_between_journal_and_commit(db: Path, start) -> None:
    store, _ = new_run(db)
    result = build.make_result()
    process = start(
        """
db = Path(sys.argv[1])
result = build.make_result()
journal = Journal(journal_folder(db), result.key.scope)
for sample in result.samples:
    journal.append(list(zip(sample.request_hashes, sample.responses)))
die()
""",
        db,
    )
    assert process.wait(timeout=60) == -9
    assert store.find(result.key) is None
    expected = {h: r for s in result.samples for h, r in zip(s.request_hashes, s.responses, strict=True)}
    assert read_answers(journal_folder(db), result.key.scope) == expected


def test_a_process_killed_after_the_commit_leaves_the_same_answers_twice_and_no_harm(db: Path, start) -> None:
    store, run = new_run(db)
    process = start(
        """
db, run = Path(sys.argv[1]), sys.argv[2]
result = build.make_result()
journal = Journal(journal_folder(db), result.key.scope)
for sample in result.samples:
    journal.append(list(zip(sample.request_hashes, sample.responses)))
Store(db).commit(run, result)
die()
""",
        db,
        run,
    )
    assert process.wait(timeout=60) == -9
    result = build.make_result()
    assert store.find(result.key) == stored(result)
    assert store.answers(result.key.scope) == read_answers(journal_folder(db), result.key.scope)


def test_a_full_disk_while_committing_is_one_line_and_the_database_stays_whole(db: Path, start) -> None:
    store, run = new_run(db)
    kept = build.make_result()
    store.commit(run, kept)
    journal = Journal(journal_folder(db), "0" * 64)
    journal.append([("h", 1.0)])
    process = start(
        """
import resource
from tuneboard.errors import StoreError
db, run = Path(sys.argv[1]), sys.argv[2]
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (db.stat().st_size + 100_000, hard))
try:
    Store(db).commit(run, build.make_result(build.make_candidate("late", adapter="a9"), n=20000))
except StoreError as error:
    print(error)
""",
        db,
        run,
    )
    out, err = process.communicate(timeout=120)
    assert err == "" and out.count("\n") == 1, (out, err)
    assert str(db) in out and "check the file, its permissions and the free space" in out
    assert store.find(kept.key) == stored(kept)
    assert [row.name for row in queries.models(db)] == ["base"]
    assert read_answers(journal_folder(db), "0" * 64) == {"h": 1.0}
    assert store.commit(run, build.make_result(build.make_candidate("late", adapter="a9"), n=20)) is True
    journal.close()


def test_twenty_thousand_samples_are_committed_in_bulk(db: Path) -> None:
    store, run = new_run(db)
    result = build.make_result(n=20_000)
    began = time.perf_counter()
    store.commit(run, result)
    print(f"commit of 20,000 samples: {time.perf_counter() - began:.2f} s")
    assert (count(db, "samples"), count(db, "scores")) == (20_000, 40_000)
