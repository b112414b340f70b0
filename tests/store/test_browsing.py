"""Samples of two candidates are found, sorted by what became of them, searched and opened, out of a real database."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.compare import compare
from tuneboard.errors import DataError
from tuneboard.records import Document, MetricValue, SampleScore, TaskRef, fingerprint
from tuneboard.store.answers import cut_responses
from tuneboard.store.browsing import (
    CHANGES,
    Pairing,
    SampleIndex,
    find_pairs,
    index_samples,
    parse_key,
    with_metric,
)
from tuneboard.store.pairs import load_scores
from tuneboard.store.sample_pages import open_sample, sample_rows
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))

BASE, MINE = build.make_candidate(), build.make_candidate("mine", adapter="a1")


def marked(candidate: Any, marks: str, task: TaskRef | None = None, *, higher: bool = True, **key: Any) -> Any:
    """A result whose samples score what ``marks`` says, a digit (tenths but for 0 and 1) each, x for failed ones."""
    task = task or build.make_task(n_docs=len(marks))
    values = [None if mark == "x" else float(mark) if mark in "01" else int(mark) / 10 for mark in marks]
    samples = tuple(
        replace(sample, metrics={"none": {"acc": value, "acc_norm": 1.0}})
        if value is not None
        else replace(sample, metrics={}, status="failed", reason="no memory", responses=(None,) * 4)
        for sample, value in zip(build.make_samples(candidate, len(marks), task=task.name), values, strict=True)
    )
    return _result(candidate, task, samples, ("acc", "acc_norm"), higher, **key)


def answered(candidate: Any, texts: Sequence[str], task: TaskRef, **document: Any) -> Any:
    """A result of generated answers, all of them right."""
    samples = tuple(
        SampleScore(
            document=Document(
                **{
                    "doc_id": i,
                    "doc_hash": f"d{i}",
                    "occurrence": 0,
                    "prompt_hash": f"p{i}",
                    "prompt": f"Q: question {i}",
                    "choices": (),
                    "target": f"#### {i}",
                }
                | document
            ),
            request_hashes=(fingerprint(i),),
            responses=(text,),
            metrics={"none": {"acc": 1.0}},
            filtered={"none": [text.upper()]},
        )
        for i, text in enumerate(texts)
    )
    return _result(candidate, task, samples, ("acc",), True)


def _result(
    candidate: Any, task: TaskRef, samples: Sequence[SampleScore], names: Sequence[str], higher: bool, **key: Any
) -> Any:
    scored = [sample.metrics["none"] for sample in samples if sample.metrics]
    metrics = tuple(
        MetricValue(name, "none", sum(one[name] for one in scored) / max(1, len(scored)), None, None, higher)
        for name in names
    )
    whole = build.make_result(
        candidate, task, n=len(scored), failed=len(samples) - len(scored), samples=tuple(samples), metrics=metrics
    )
    return replace(whole, key=replace(whole.key, **key))


def group(candidate: Any, name: str, members: Sequence[str]) -> Any:
    """A group's result."""
    return build.make_result(
        candidate, build.make_task(name, n_docs=0), samples=(), kind="group", members=tuple(members)
    )


def generation(num_fewshot: int = 0) -> TaskRef:
    """A task whose answers are generated."""
    return replace(build.make_task("told", num_fewshot), output_type="generate_until")


@pytest.fixture
def store(db: Path) -> Callable[..., Path]:
    def store(*results: Any) -> Path:
        kept = Store(db)
        for result in results:
            kept.commit(kept.start_run(build.make_provenance()), result)
        return db

    return store


def indexed(db: Path, text: str = "") -> tuple[Pairing, SampleIndex]:
    """Base and candidate, all tasks."""
    pairing = find_pairs(db, "base", "mine")
    return pairing, index_samples(db, pairing.pairs, text)


def found(db: Path, change: str) -> list[tuple[str, int]]:
    """The samples of a kind."""
    _, index = indexed(db)
    return [index.key(int(at)) for at in index.of(change)]  # type: ignore[arg-type]


def test_every_sample_broke_was_fixed_or_stayed_as_it_was(store):
    db = store(marked(BASE, "1010x"), marked(MINE, "0110x"))
    _, index = indexed(db)
    assert index.counts() == {"broke": 1, "fixed": 1, "both right": 1, "both wrong": 1, "not scored": 1}
    assert [found(db, change) for change in CHANGES] == [[("toy", i)] for i in (0, 1, 3, 2, 4)]
    assert sum(index.counts().values()) == len(index.of(None)) == 5


def test_counts_are_those_of_the_comparison(store):
    marks = "1101001110100101", "1011001010110001"
    db = store(marked(BASE, marks[0]), marked(MINE, marks[1]))
    (row, *_) = compare(load_scores(db, "base", ["mine"])).candidates[0].tasks
    counts = indexed(db)[1].counts()
    assert (row.fixed, row.broke) == (counts["fixed"], counts["broke"]) == (2, 3)


def test_where_lower_is_better_a_sample_breaks_by_rising(store):
    db = store(marked(BASE, "0150", higher=False), marked(MINE, "1050", higher=False))
    assert (found(db, "broke"), found(db, "fixed")) == ([("toy", 0)], [("toy", 1)])
    assert (found(db, "both wrong"), found(db, "both right")) == ([("toy", 2)], [("toy", 3)])


def test_a_sample_that_failed_on_one_side_is_not_scored(store):
    db = store(marked(BASE, "1x1"), marked(MINE, "11x"))
    assert found(db, "not scored") == [("toy", 1), ("toy", 2)]


def test_repeats_are_averaged_as_comparisons_do(store):
    results = [marked(MINE, marks, repeat=i) for i, marks in enumerate(("10", "00"))]
    db = store(marked(BASE, "10"), *reversed(results))
    pairing, index = indexed(db)
    assert index.candidate.tolist() == [0.5, 0.0]
    assert found(db, "broke") == [("toy", 0)]
    assert len(pairing.pairs[0].block.repeats[1]) == 2


def test_another_metric_can_tell_right_from_wrong(store):
    db = store(marked(BASE, "10"), marked(MINE, "01"))
    pairs = indexed(db)[0].pairs
    assert pairs[0].metric == ("acc", "none")
    index = index_samples(db, with_metric(pairs, ("acc_norm", "none")))
    assert index.counts()["both right"] == 2
    assert with_metric(pairs, ("f1", "none")) == ()


def test_subjects_know_their_group_and_tasks_keep_the_order_of_evaluation(store):
    tasks = [build.make_task(name, n_docs=2) for name in ("zebra", "apple", "other")]
    results = [marked(one, "10", task) for one in (BASE, MINE) for task in tasks]
    db = store(*results, *(group(one, "zoo", ["zebra", "apple"]) for one in (BASE, MINE)))
    pairing, index = indexed(db)
    assert [(pair.task, pair.member_of) for pair in pairing.pairs] == [
        ("zebra", "zoo"),
        ("apple", "zoo"),
        ("other", None),
    ]
    assert [index.key(at) for at in range(6)] == [(name, i) for name in ("zebra", "apple", "other") for i in (0, 1)]
    assert pairing.missing == ()


def test_what_cannot_be_paired_is_named_with_the_reason(store):
    lonely = build.make_task("lonely", n_docs=2)
    shots = build.make_task("shots", 5, n_docs=2)
    db = store(
        marked(BASE, "10"),
        marked(MINE, "10"),
        marked(BASE, "10", lonely),
        marked(BASE, "10", shots),
        marked(MINE, "10", build.make_task("shots", 0, n_docs=2)),
    )
    pairing = find_pairs(db, "base", "mine")
    assert [pair.task for pair in pairing.pairs] == ["toy"]
    reasons = dict(pairing.missing)
    assert reasons["lonely"] == "no result of 'mine'"
    assert "few-shot examples 5 of 'base', 0 of 'mine'" in reasons["shots"]


def test_a_candidate_without_results_has_no_pairs(store):
    pairing = find_pairs(store(marked(BASE, "10")), "base", "nobody")
    assert pairing.pairs == ()
    assert "no result of 'nobody'" in dict(pairing.missing)["nobody"]


def test_a_sample_is_found_by_its_key_and_only_by_it(store):
    db = store(marked(BASE, "10101"), marked(MINE, "01101"))
    _, index = indexed(db)
    assert [index.find(index.key(at)) for at in range(5)] == list(range(5))
    assert [index.find(key) for key in (("toy", 5), ("toy", -1), ("else", 0))] == [None] * 3


@pytest.mark.parametrize(
    ("text", "key"),
    [("toy:3", ("toy", 3)), ("a:b:0", ("a:b", 0)), ("toy", None), (":3", None), ("toy:-1", None), ("toy:²", None),
     ("toy:" + "9" * 19, None), ("", None)],
)  # fmt: skip
def test_keys_in_links_are_read_or_refused(text, key):
    assert parse_key(text) == key


@pytest.mark.parametrize(
    ("text", "expected"),
    [("question 1", [1]), ("STRASSE", [0]), ("straße", [0]), ("Größe", [0]), ("größe", [0]), ("GRÖSSE", []),
     ('say "hi"\n', [1]), ("#### 2", [2]), ("nowhere", []), ("%", []), ("\U0001f600", [2])],
)  # fmt: skip
def test_samples_are_searched_in_question_target_and_answers_whatever_the_case(store, text, expected):
    mine = ["Die Größe der Straße, strasse", 'They say "hi"\nand go', "smile \U0001f600"]
    db = store(answered(BASE, ["nothing"] * 3, generation()), answered(MINE, mine, generation()))
    _, index = indexed(db, text)
    assert index.doc_ids.tolist() == expected


def test_few_shot_examples_are_not_searched(store):
    prompt = {"prompt": "Q: an apple?\nA: yes\n\nQ: a pear?\nA:"}
    results = [answered(one, ["no"], generation(1), **prompt) for one in (BASE, MINE)]
    db = store(*results)
    assert [len(indexed(db, text)[1].doc_ids) for text in ("apple", "pear")] == [0, 1]
    row = sample_rows(db, indexed(db)[0].pairs, [("told", 0)])[0]
    assert row.question == "Q: a pear?\nA:"


def test_choices_are_searched_and_log_probabilities_are_not(store):
    db = store(marked(BASE, "10"), marked(MINE, "10"))
    assert [len(indexed(db, text)[1].doc_ids) for text in ("c", "true", "0.3")] == [2, 0, 0]


def test_rows_come_in_the_order_of_their_keys_and_what_is_gone_is_left_out(store):
    db = store(marked(BASE, "1010"), marked(MINE, "1010"))
    pairs = indexed(db)[0].pairs
    rows = sample_rows(db, pairs, [("toy", 3), ("toy", 0), ("toy", 77)])
    assert [(row.doc_id, row.target, row.base) for row in rows] == [(3, "D", "A"), (0, "A", "A")]


def test_rows_of_huge_and_odd_answers_come_in_short(store):
    texts = ["long " * 1_000_000, "half \ud800 a pair", "\U0001f600" * 5_000]
    db = store(answered(BASE, texts, generation()), answered(MINE, texts, generation()))
    rows = sample_rows(db, indexed(db)[0].pairs, [("told", i) for i in range(3)])
    assert rows[0].base.startswith("long long") and len(rows[0].base) < 20_000
    assert rows[1].base == "HALF \ud800 A PAIR"
    assert rows[2].candidate.startswith("\U0001f600" * 900)


def test_an_open_sample_tells_the_chosen_and_the_right_choice(store):
    db = store(marked(BASE, "10"), marked(MINE, "0x"))
    pair = indexed(db)[0].pairs[0]
    sample = open_sample(db, pair, 0)
    assert (sample.right, sample.choices, sample.target) == (0, (" A", " B", " C", " D"), "0")
    assert sample.base.chosen == 0 and len(sample.base.scores) == 4 and sample.base.texts == ()
    assert sample.base.metrics == {("acc", "none"): 1.0, ("acc_norm", "none"): 1.0}
    failed = open_sample(db, pair, 1).candidate
    assert (failed.status, failed.reason, failed.chosen, failed.scores) == ("failed", "no memory", None, ())


def test_the_choice_counts_as_the_metric_counts_it(store):
    def result(candidate: Any) -> Any:
        whole = marked(candidate, "1")
        document = replace(whole.samples[0].document, choices=(" yes", " by all means, yes"), target="1")
        sample = replace(whole.samples[0], document=document, responses=((-3.0, False), (-6.0, False)))
        return replace(whole, samples=(sample,))

    db = store(result(BASE), result(MINE))
    pair = indexed(db)[0].pairs[0]
    by_metric = {name: open_sample(db, replace(pair, metric=(name, "none")), 0) for name in ("acc", "acc_norm")}
    assert [by_metric[name].base.chosen for name in ("acc", "acc_norm")] == [0, 1]


def test_an_open_generation_has_its_text_and_what_counted(store):
    db = store(answered(BASE, ["so: 4"], generation()), answered(MINE, ["SO"], generation()))
    sample = open_sample(db, indexed(db)[0].pairs[0], 0)
    assert (sample.base.texts, sample.base.counted) == (("so: 4",), "SO: 4")
    assert (sample.candidate.texts, sample.candidate.counted) == (("SO",), None)
    assert sample.base.chosen is None and sample.target == "#### 0" and sample.right is None


def test_a_document_that_is_not_there_is_one_clear_error(store):
    db = store(marked(BASE, "1"), marked(MINE, "1"))
    with pytest.raises(DataError, match="task 'toy' has no document 5; choose a sample from the list"):
        open_sample(db, indexed(db)[0].pairs[0], 5)


def test_stored_answers_are_read_wherever_they_are_cut():
    whole = json.dumps(['a "quoted"\nline \ud83d\ude00 \\ end', "second"])
    start = whole.index("q")
    for end in range(start, len(whole) + 1):
        (first, *_) = cut_responses(whole[:end])
        assert first.startswith("a ")
    assert cut_responses(whole) == json.loads(whole)
    assert cut_responses("[[-1.5,tr") == []
