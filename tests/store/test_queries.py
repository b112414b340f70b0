from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.errors import DataError, StoreError, UnknownName
from tuneboard.store import exports, queries, samples
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))


@pytest.fixture
def store(db: Path) -> Store:
    return Store(db)


def commit(store: Store, *results) -> str:
    run = store.start_run(build.make_provenance())
    for result in results:
        store.commit(run, result)
    return run


def test_a_missing_database_is_one_line_with_the_command_that_fills_it(db: Path) -> None:
    for ask in (queries.runs, queries.models, queries.tasks, queries.cells, queries.metrics, queries.results):
        with pytest.raises(StoreError, match=r"no database at .*; run: tuneboard evaluate --model MODEL .* --db"):
            ask(db)
    with pytest.raises(StoreError, match="no database at"):
        queries.samples(db, "base", "toy")
    assert not db.parent.exists()


def test_samples_have_the_shape_of_the_contract(store: Store, db: Path) -> None:
    result = build.make_result(n=3)
    commit(store, result)
    rows = list(queries.samples(db, "base", "toy"))
    assert [row["doc_id"] for row in rows] == [0, 1, 2]
    sample = result.samples[1]
    assert rows[1] == {
        "candidate": "base",
        "task": "toy",
        "doc_id": 1,
        "doc_hash": sample.document.doc_hash,
        "occurrence": 0,
        "prompt_hash": sample.document.prompt_hash,
        "prompt": sample.document.prompt,
        "choices": [" A", " B", " C", " D"],
        "cluster": None,
        "filter": "none",
        "status": "ok",
        "reason": None,
        "target": "1",
        "responses": [list(response) for response in sample.responses],
        "filtered": None,
        "metrics": {"acc": 0.0, "acc_norm": 0.0},
    }


def test_samples_are_streamed_in_order_over_many_pages(store: Store, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, build.make_result(n=25))
    whole = list(queries.samples(db, "base", "toy"))
    for size in (1, 7, 25):
        monkeypatch.setattr(samples, "PAGE_DOCS", size)
        assert list(queries.samples(db, "base", "toy")) == whole


def test_others_write_while_samples_are_read(store: Store, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, build.make_result(n=10))
    monkeypatch.setattr(samples, "PAGE_DOCS", 3)
    rows = queries.samples(db, "base", "toy")
    next(rows)
    assert Store(db, wait_s=0).start_run(build.make_provenance())
    assert len(list(rows)) == 9


def test_each_filter_has_its_line_per_sample(store: Store, db: Path) -> None:
    changed = tuple(
        dataclasses.replace(sample, metrics={"strict": {"exact_match": 1.0}, "flexible": {"exact_match": 0.0}})
        for sample in build.make_samples(build.make_candidate(), 2)
    )
    commit(store, build.make_result(samples=changed, n=2))
    rows = list(queries.samples(db, "base", "toy"))
    assert [(row["doc_id"], row["filter"]) for row in rows] == [
        (0, "strict"),
        (0, "flexible"),
        (1, "strict"),
        (1, "flexible"),
    ]
    only = list(queries.samples(db, "base", "toy", filter="flexible"))
    assert [row["metrics"] for row in only] == [{"exact_match": 0.0}] * 2
    with pytest.raises(UnknownName, match="unknown filter 'flexibel'; did you mean flexible"):
        queries.samples(db, "base", "toy", filter="flexibel")


def test_the_newest_cell_is_meant_unless_a_run_is_named(store: Store, db: Path) -> None:
    small, large = build.make_result(n=4, documents="first-4"), build.make_result(n=10)
    first = commit(store, small)
    second = commit(store, large)
    assert len(list(queries.samples(db, "base", "toy"))) == 10
    assert len(list(queries.samples(db, "base", "toy", run=first))) == 4
    assert [row.n for row in queries.results(db)] == [10]
    assert [row.n for row in queries.results(db, run=first)] == [4]
    assert [cell.n for cell in queries.cells(db)] == [10, 4]
    # Using the smaller one again makes it the newest.
    third = store.start_run(build.make_provenance())
    store.link(third, small)
    assert [row.n for row in queries.results(db)] == [4]
    assert [row.status for row in queries.results(db, run=third)] == ["reused"]
    assert [row.n for row in queries.results(db, run=second)] == [10]


def test_metrics_are_filtered_by_candidate_and_task(store: Store, db: Path) -> None:
    tuned = build.make_candidate("tuned", adapter="a1")
    commit(
        store,
        build.make_result(),
        build.make_result(task=build.make_task("other")),
        build.make_result(tuned),
    )
    named = {(row.cell.candidate, row.cell.task, row.metric.metric) for row in queries.metrics(db)}
    assert named == {
        (candidate, task, metric)
        for candidate, task in (("base", "toy"), ("base", "other"), ("tuned", "toy"))
        for metric in ("acc", "acc_norm")
    }
    assert {row.cell.task for row in queries.metrics(db, candidate="tuned")} == {"toy"}
    assert {row.cell.candidate for row in queries.metrics(db, task="other")} == {"base"}
    assert queries.metrics(db, candidate="tuned", task="other") == []


def test_unknown_names_come_with_near_matches(store: Store, db: Path) -> None:
    commit(store, build.make_result())
    with pytest.raises(UnknownName, match="unknown candidate 'bsae'; did you mean base"):
        queries.cells(db, candidate="bsae")
    with pytest.raises(UnknownName, match="unknown task 'tooy'; did you mean toy"):
        queries.samples(db, "base", "tooy")
    with pytest.raises(UnknownName, match=r"unknown run 'x'; see: tuneboard show runs"):
        queries.metrics(db, run="x")


def test_samples_of_what_has_none_say_what_to_do(store: Store, db: Path) -> None:
    group = build.make_result(task=build.make_task("mmlu"), kind="group", samples=(), members=("m_a", "m_b"))
    good = build.make_result()
    first = commit(store, good, group)
    with pytest.raises(DataError, match=r"'mmlu' is a group; .* name one of m_a, m_b"):
        queries.samples(db, "base", "mmlu")
    commit(store, build.make_result(documents="more", status="failed", reason="out of memory", samples=(), n=0))
    with pytest.raises(DataError, match=rf"is failed \(out of memory\); .* --run {first}"):
        queries.samples(db, "base", "toy")
    assert len(list(queries.samples(db, "base", "toy", run=first))) == 10


def test_a_base_is_told_from_a_full_checkpoint_by_the_adapters_on_it(store: Store, db: Path) -> None:
    store.register(build.make_candidate("llama", "w0"))
    store.register(build.make_candidate("tuned", "w0", "a1"))
    store.register(build.make_candidate("full", "w1"))
    assert [(row.name, row.kind) for row in queries.models(db)] == [
        ("llama", "base"),
        ("tuned", "adapter"),
        ("full", "checkpoint"),
    ]


def test_result_rows_have_one_row_per_metric_and_one_for_a_failure(store: Store, db: Path) -> None:
    bad = build.make_result(
        build.make_candidate("bad", adapter="b"), status="failed", reason="no", samples=(), metrics=()
    )
    commit(store, build.make_result(), bad)
    rows = exports.result_rows(db)
    assert [(row["candidate"], row["metric"], row["value"], row["status"]) for row in rows] == [
        ("base", "acc", 0.4, "done"),
        ("base", "acc_norm", 0.5, "done"),
        ("bad", None, None, "failed"),
    ]
    assert (rows[0]["ci_low"], rows[0]["ci_high"], rows[1]["ci_low"]) == (0.17, 0.69, None)


def test_the_lm_eval_layout_has_its_keys(store: Store, db: Path) -> None:
    group = build.make_result(task=build.make_task("mmlu"), kind="group", samples=(), members=("toy",))
    commit(store, build.make_result(), group)
    content = exports.lm_eval_results(db, "base")
    assert content["results"]["toy"] == {
        "name": "toy",
        "alias": "toy",
        "sample_len": 10,
        "acc,none": 0.4,
        "acc_stderr,none": 0.15,
        "acc_norm,none": 0.5,
        "acc_norm_stderr,none": "N/A",
    }
    assert set(content["groups"]) == {"mmlu"}
    assert content["group_subtasks"] == {"toy": [], "mmlu": ["toy"]}
    assert content["n-samples"] == {"toy": {"original": 10, "effective": 10}}
    assert content["higher_is_better"]["toy"] == {"acc": True, "acc_norm": None}
    assert (content["n-shot"], content["versions"]) == ({"toy": 0}, {"toy": 1.0, "mmlu": 1.0})
    assert content["config"]["model_args"] == {"pretrained": "models/tiny", "dtype": "float32"}
