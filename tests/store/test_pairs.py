"""Scores of a base and candidates come out of a real database side by side, or are refused with the reason."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tuneboard import stats
from tuneboard.compare import Scores, compare
from tuneboard.compare.flips import changed_samples
from tuneboard.errors import DataError, StoreError, UnknownName
from tuneboard.records import MetricValue, SampleScore, TaskRef, TaskResult, fingerprint
from tuneboard.store.flips import with_texts
from tuneboard.store.pairs import load_scores
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))

BASE, MINE, OTHER = (
    build.make_candidate(),
    build.make_candidate("mine", adapter="a1"),
    build.make_candidate("other", adapter="a2"),
)

Commit = Callable[..., str]


def result(candidate: Any, correct: str, task: TaskRef | None = None, **changes: Any) -> TaskResult:
    """A result that is right where ``correct`` has a 1, failed where it has an x."""
    task = task or build.make_task(n_docs=len(correct))
    samples = tuple(
        replace(sample, status="failed", reason="no memory", metrics={}, responses=(None,) * 4)
        if mark == "x"
        else replace(sample, metrics={"none": {"acc": float(mark)}})
        for sample, mark in zip(build.make_samples(candidate, len(correct), task=task.name), correct, strict=True)
    )
    scored = [float(mark) for mark in correct if mark != "x"]
    metric = MetricValue("acc", "none", sum(scored) / len(scored), None, None, True)
    key = changes.pop("key", {})
    whole = build.make_result(
        candidate, task, **({"n": len(scored), "samples": samples, "metrics": (metric,)} | changes)
    )
    return replace(whole, key=replace(whole.key, **key))


@pytest.fixture
def commit(db: Path) -> Commit:
    store = Store(db)

    def commit(*arguments: Any, run: str | None = None, **changes: Any) -> str:
        run = run or store.start_run(build.make_provenance())
        store.commit(run, result(*arguments, **changes))
        return run

    return commit


def only_reason(scores: Scores) -> str:
    (refusal,) = scores.candidates[0].refused
    return refusal.reason


def test_samples_pair_by_document_whatever_order_they_came_in(db: Path, commit: Commit) -> None:
    commit(BASE, "1100110011")
    store = Store(db)
    mine = result(MINE, "1010101010")
    store.commit(store.start_run(build.make_provenance()), replace(mine, samples=mine.samples[::-1]))

    (task,) = load_scores(db, "base", ["mine"]).tasks

    assert task.names == ("base", "mine")
    values = task.metrics["acc", "none"].values
    assert values.tolist() == [[float(c) for c in "1100110011"], [float(c) for c in "1010101010"]]
    assert task.doc_ids.tolist() == list(range(10))


def test_twins_of_one_hash_stay_apart_by_their_occurrence(db: Path, commit: Commit) -> None:
    # The builder gives documents 0 and 8 the same hash, as 1 and 9.
    commit(BASE, "1000000001")
    commit(MINE, "0000000011")

    row = compare(load_scores(db, "base", ["mine"])).candidates[0].tasks[0]

    assert (row.n, row.fixed, row.broke) == (10, 1, 1)


def clustered(candidate: Any, correct: str, clusters: str | None) -> TaskResult:
    """A result whose documents belong to the clusters that the letters name."""
    task = build.make_task(n_docs=len(correct))
    made = result(candidate, correct, replace(task, config={**task.config, "metadata": {"cluster": "text"}}))
    if clusters is None:
        return made
    samples = (
        replace(sample, document=replace(sample.document, cluster=name))
        for sample, name in zip(made.samples, clusters, strict=True)
    )
    return replace(made, samples=tuple(samples))


def test_clusters_of_documents_give_clustered_errors(db: Path) -> None:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    store.commit_all(run, [clustered(BASE, "110011", "aabbcc"), clustered(MINE, "001111", "aabbcc")])

    scores = load_scores(db, "base", ["mine"])
    row = compare(scores).candidates[0].tasks[0]

    assert scores.tasks[0].clusters == tuple("aabbcc")
    assert row.effect.test == "t with clustered errors"
    expected = stats.clustered_t([-1, -1, 1, 1, 0, 0], list("aabbcc"))
    assert row.effect.ci == pytest.approx(expected.interval())
    assert compare(scores).candidates[0].notes == ()


def test_samples_of_one_cluster_are_not_taken_for_independent(db: Path) -> None:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    store.commit_all(run, [clustered(BASE, "1100", "aaaa"), clustered(MINE, "0011", "aaaa")])

    assert not compare(load_scores(db, "base", ["mine"])).valid


def test_clusters_that_an_older_version_did_not_keep_are_missed_aloud(db: Path) -> None:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    store.commit_all(run, [clustered(BASE, "1100", None), clustered(MINE, "0011", None)])

    (note,) = load_scores(db, "base", ["mine"]).candidates[0].notes

    assert note.startswith("samples count as independent on toy")


def test_failed_samples_are_missing_and_never_wrong(db: Path, commit: Commit) -> None:
    commit(BASE, "11x0")
    commit(MINE, "1x00")

    row = compare(load_scores(db, "base", ["mine"])).candidates[0].tasks[0]

    assert (row.n, row.left_out, row.fixed, row.broke) == (2, 2, 0, 0)


def test_several_candidates_come_in_one_block(db: Path, commit: Commit) -> None:
    for candidate, correct in ((BASE, "1100"), (MINE, "1110"), (OTHER, "0000")):
        commit(candidate, correct)

    scores = load_scores(db, "base", ["other", "mine", "other"])

    assert [info.name for info in scores.candidates] == ["other", "mine"]
    assert [task.names for task in scores.tasks] == [("base", "other", "mine")]
    assert all(info.applied for info in scores.candidates)


def test_the_newest_result_is_meant_unless_a_run_is_named(db: Path, commit: Commit) -> None:
    first = commit(BASE, "1100")
    commit(MINE, "1111", run=first)
    second = commit(MINE, "0000", key={"engine": "vllm"})
    commit(BASE, "1100", run=second)

    newest = load_scores(db, "base", ["mine"])
    named = load_scores(db, "base", ["mine"], run=first)

    assert newest.tasks[0].metrics["acc", "none"].values[1].sum() == 0
    assert named.tasks[0].metrics["acc", "none"].values[1].sum() == 4
    assert newest.candidates[0].notes == ("engine differs: transformers of 'base', vllm of 'mine'",)


def test_the_base_is_taken_from_where_it_was_asked_the_same(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "1110")
    # A later, limited look at the base does not stand in the way.
    commit(BASE, "11", documents="first-two")

    (task,) = load_scores(db, "base", ["mine"]).tasks

    assert len(task.doc_ids) == 4


def test_other_documents_are_refused(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "11", documents="first-two")

    scores = load_scores(db, "base", ["mine"])

    assert scores.tasks == ()
    assert only_reason(scores).startswith("different documents: 4 of 'base', 2 of 'mine'; evaluate both the same way")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_fewshot": 5}, "few-shot examples 0 of 'base', 5 of 'mine'"),
        ({"data_hash": "data-2"}, "the data set has changed"),
        ({"version": "2.0"}, "task version 1.0 of 'base', 2.0 of 'mine'"),
        ({"config": {"task": "toy", "metric": "f1", "until": ["x"]}}, "the task's config differs in metric, until"),
        ({}, "chat template, system instruction or few-shot seed differ"),
    ],
)
def test_tasks_that_were_asked_in_other_ways_are_refused(
    db: Path, commit: Commit, changes: Mapping[str, Any], said: str
) -> None:
    task = build.make_task(n_docs=4)
    commit(BASE, "1100", task)
    commit(MINE, "1100", replace(task, fingerprint=fingerprint(changes, "other"), **changes))

    assert f"asked in different ways: {said}" in only_reason(load_scores(db, "base", ["mine"]))


def test_other_generation_settings_are_refused(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "1100", key={"generation": "g1"})

    assert "generation settings differ" in only_reason(load_scores(db, "base", ["mine"]))


def test_a_candidate_that_was_not_applied_is_refused_as_a_whole(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(BASE, "1100", build.make_task("more", n_docs=4))
    commit(MINE, "1110")
    reason = "adapter 'mine' was not applied: it changes no log-probability"
    commit(MINE, "1", build.make_task("more", n_docs=4), status="invalid", reason=reason, samples=(), metrics=())

    scores = load_scores(db, "base", ["mine"])

    assert (scores.candidates[0].applied, scores.candidates[0].reason) == (False, reason)
    assert scores.tasks == ()


def test_a_result_that_failed_is_refused_with_its_reason(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "1", status="failed", reason="out of memory", samples=(), metrics=())

    assert "'mine' is failed (out of memory); evaluate it again" in only_reason(load_scores(db, "base", ["mine"]))


def test_tasks_that_only_the_base_has_are_named(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(BASE, "1100", build.make_task("more", n_docs=4))
    commit(MINE, "1110")

    scores = load_scores(db, "base", ["mine"])

    assert [(one.task, one.reason) for one in scores.candidates[0].refused] == [("more", "no result of 'mine'")]


def test_names_that_are_not_there_list_near_ones(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    Store(db).register(OTHER)

    with pytest.raises(UnknownName, match="unknown candidate 'othr'; did you mean other"):
        load_scores(db, "base", ["othr"])
    with pytest.raises(DataError, match="no result of 'other'"):
        load_scores(db, "other", ["base"])
    with pytest.raises(UnknownName, match="unknown run"):
        load_scores(db, "base", ["other"], run="never")
    assert "no result of 'other' is there" in str(load_scores(db, "base", ["other"]).candidates[0].reason)


def test_no_database_is_no_traceback(db: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        load_scores(db, "base", ["mine"])


def same_answers(of: Any, like: Any, correct: str) -> TaskResult:
    """A result of one candidate with the log-probabilities of another."""
    twin = result(like, correct)
    return replace(result(of, correct), samples=twin.samples)


def test_log_probabilities_of_the_base_to_the_last_bit_mean_not_applied(db: Path, commit: Commit) -> None:
    run = commit(BASE, "1100")
    Store(db).commit(run, same_answers(MINE, BASE, "1100"))

    info = load_scores(db, "base", ["mine"]).candidates[0]

    assert info.applied is False
    assert "to the last bit" in str(info.reason)


def test_equal_scores_from_other_log_probabilities_are_compared(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "1100")

    assert load_scores(db, "base", ["mine"]).candidates[0].applied is True


def test_a_candidate_may_be_compared_with_itself_under_any_name(db: Path, commit: Commit) -> None:
    run = commit(BASE, "1100")
    again = replace(BASE, name="again")
    Store(db).commit(run, same_answers(again, BASE, "1100"))

    for name in ("base", "again"):
        scores = load_scores(db, "base", [name])
        assert (scores.candidates[0].same_weights, scores.candidates[0].reason) == (True, None)
        assert compare(scores).candidates[0].tasks[0].delta == 0


def test_repeats_are_averaged_sample_by_sample_and_give_the_noise(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "1110", key={"repeat": 1})
    commit(MINE, "1000", key={"repeat": 0})

    (task,) = load_scores(db, "base", ["mine"]).tasks
    scores = task.metrics["acc", "none"]
    row = compare(load_scores(db, "base", ["mine"])).candidates[0].tasks[0]

    assert task.repeats == (1, 2)
    assert scores.averaged[1].tolist() == [1, 0.5, 0.5, 0]
    assert scores.values[1].tolist() == [1, 0, 0, 0]
    assert scores.spread is not None and np.isnan(scores.spread[0])
    assert scores.spread[1] == pytest.approx(2 * 0.5 / 16)
    assert row.candidate == pytest.approx(0.5)
    assert row.noise_floor == pytest.approx(1.959964 * (1.5 * 2 * 0.5 / 16) ** 0.5)


def test_details_of_corpus_metrics_come_with_their_aggregation(db: Path) -> None:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    config = {"task": "wiki", "metric_list": [{"metric": "ppl", "aggregation": "weighted_perplexity"}]}
    for candidate, scale in ((BASE, 1.0), (MINE, 0.5)):
        task = replace(build.make_task("wiki", n_docs=30), config=config)
        pieces = [[-(10.0 + i) * scale, 5 + i % 3] for i in range(30)]
        samples = tuple(
            replace(sample, metrics={"none": {"ppl": piece}})
            for sample, piece in zip(build.make_samples(candidate, 30, task="wiki"), pieces, strict=True)
        )
        value = float(np.exp(-sum(piece[0] for piece in pieces) / sum(piece[1] for piece in pieces)))
        metric = MetricValue("ppl", "none", value, None, None, False)
        store.commit(run, build.make_result(candidate, task, n=30, samples=samples, metrics=(metric,)))

    scores = load_scores(db, "base", ["mine"])
    row = compare(scores).candidates[0].tasks[0]

    assert scores.tasks[0].metrics["ppl", "none"].aggregation == "weighted_perplexity"
    assert scores.tasks[0].metrics["ppl", "none"].details[1][0] == [-5.0, 5]
    assert row.candidate == pytest.approx(row.base**0.5)
    assert row.status == "improved"


def commit_group(store: Store, run: str, candidate: Any, correct: Mapping[str, str]) -> None:
    parts = [result(candidate, marks, build.make_task(name, n_docs=len(marks))) for name, marks in correct.items()]
    n = sum(part.n for part in parts)
    value = sum(part.metrics[0].value * part.n for part in parts) / n
    task = replace(build.make_task("mmlu", n_docs=n), output_type="group")
    group = build.make_result(
        candidate,
        task,
        kind="group",
        samples=(),
        n=n,
        members=tuple(correct),
        metrics=(MetricValue("acc", "none", value, 0.1, None, True),),
    )
    store.commit_all(run, [*parts, group])


def test_groups_come_with_members_and_are_compared_as_one(db: Path) -> None:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    commit_group(store, run, BASE, {"mmlu_a": "110000", "mmlu_b": "1111"})
    commit_group(store, run, MINE, {"mmlu_a": "111000", "mmlu_b": "1001"})

    rows = compare(load_scores(db, "base", ["mine"])).candidates[0].tasks

    assert [(row.task, row.kind, row.n, row.fixed, row.broke) for row in rows] == [
        ("mmlu", "group", 10, 1, 2),
        ("mmlu_a", "task", 6, 1, 0),
        ("mmlu_b", "task", 4, 0, 2),
    ]


def test_roles_are_those_that_the_newest_run_was_asked_with(db: Path) -> None:
    store = Store(db)
    for role in ("guard", "target"):
        settings = {"tasks": [{"task": "toy", "role": role, "headline": "acc"}, {"task": "else", "role": "guard"}]}
        run = store.start_run(replace(build.make_provenance(), settings=settings))
        store.commit(run, result(BASE, "1100", key={"engine": role}))
        store.commit(run, result(MINE, "1110", key={"engine": role}))

    scores = load_scores(db, "base", ["mine"])

    assert [(entry.task, entry.role) for entry in scores.entries] == [("toy", "target"), ("else", "guard")]
    assert compare(scores).candidates[0].tasks[0].role == "target"


def test_changed_samples_carry_prompt_target_and_both_answers(db: Path, commit: Commit) -> None:
    commit(BASE, "1100")
    commit(MINE, "1010")
    scores = load_scores(db, "base", ["mine"])

    broke, fixed = with_texts(db, scores, changed_samples(scores, compare(scores), 5))

    assert (broke.doc_id, broke.direction, fixed.doc_id, fixed.direction) == (1, "broke", 2, "fixed")
    assert broke.prompt.startswith("toy: question 1")
    # The builder's targets are numbers of choices, and its first choice is always the likeliest.
    assert (broke.target, broke.base_answer, broke.candidate_answer) == ("B", "A", "A")


def test_answers_of_generations_are_the_filtered_ones(db: Path) -> None:
    store = Store(db)
    run = store.start_run(build.make_provenance())
    for candidate, said, score in ((BASE, "41", 0.0), (MINE, "42", 1.0)):
        samples = tuple(_generated(sample, said, score) for sample in build.make_samples(candidate, 2, task="gen"))
        metric = MetricValue("exact_match", "strict", score, None, None, True)
        task = replace(build.make_task("gen", n_docs=2), output_type="generate_until")
        store.commit(run, build.make_result(candidate, task, n=2, samples=samples, metrics=(metric,)))
    scores = load_scores(db, "base", ["mine"])

    flips = with_texts(db, scores, changed_samples(scores, compare(scores), 1))

    assert [(flip.base_answer, flip.candidate_answer) for flip in flips] == [("41", "42")]


def _generated(sample: SampleScore, said: str, score: float) -> SampleScore:
    return replace(
        sample,
        document=replace(sample.document, choices=(), target="42"),
        responses=(f"I think {said}",),
        request_hashes=sample.request_hashes[:1],
        metrics={"strict": {"exact_match": score}},
        filtered={"strict": [said]},
    )
