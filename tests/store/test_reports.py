"""What lies behind a score is read from stored samples, and agrees with what was scored."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.errors import DataError
from tuneboard.store.reports import TaskReport, task_report
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("builders.py"))))


def store(tmp_path: Path, samples: Sequence[Any], output_type: str = "multiple_choice", **config: Any) -> Path:
    task = dataclasses.replace(build.make_task(n_docs=len(samples)), output_type=output_type, config=config)
    db = tmp_path / "x.duckdb"
    store = Store(db)
    run = store.start_run(build.make_provenance())
    ok = sum(one.status == "ok" for one in samples)
    store.commit(run, build.make_result(task=task, samples=tuple(samples), n=ok, failed=len(samples) - ok))
    return db


def choosing(
    golds: Sequence[int], said: Sequence[int], targets: Sequence[str], choices: Sequence[tuple[str, ...]]
) -> list[Any]:
    """Samples that answered ``said``, with accuracies that follow from that."""
    made = build.make_samples(build.make_candidate(), len(golds))
    return [
        dataclasses.replace(
            sample,
            document=dataclasses.replace(sample.document, target=target, choices=each),
            responses=tuple((-1.0 if place == answer else -2.0 - place, False) for place in range(len(each))),
            metrics={"none": {"acc": float(gold == answer)}},
        )
        for sample, gold, answer, target, each in zip(made, golds, said, targets, choices, strict=True)
    ]


def report(tmp_path: Path, samples: Sequence[Any], **more: Any) -> TaskReport:
    return task_report(store(tmp_path, samples, **more), "base", "toy")


GOLD, SAID = [0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 1, 0, 2, 2, 1, 1]
LABELS = [(" no", " yes", " maybe")] * 8


@pytest.mark.parametrize("as_text", [False, True])
def test_shared_choices_are_labels_whose_confusion_is_told(tmp_path: Path, as_text: bool) -> None:
    targets = [LABELS[0][gold].strip() if as_text else str(gold) for gold in GOLD]
    found = report(tmp_path, choosing(GOLD, SAID, targets, LABELS)).labels
    assert found is not None and not found.by_place
    assert found.labels == ("no", "yes", "maybe")
    assert found.confusion == ((2, 1, 0, 0), (0, 2, 1, 0), (0, 1, 1, 0))
    assert found.accuracy.value == 5 / 8
    sklearn = pytest.importorskip("sklearn.metrics")
    assert found.f1_macro.value == pytest.approx(sklearn.f1_score(GOLD, SAID, average="macro"))
    assert found.mcc.value == pytest.approx(sklearn.matthews_corrcoef(GOLD, SAID))
    assert found.mcc.ci is not None and found.mcc.ci[0] < found.mcc.value < found.mcc.ci[1]
    assert found.calibration is not None
    assert sum(one.n for one in found.calibration.bins) == 8


def test_choices_of_their_own_are_told_by_place(tmp_path: Path) -> None:
    choices = [(f" a{i}", f" b{i}", f" c{i}") if i % 2 else (f" a{i}", f" b{i}", f" c{i}", f" d{i}") for i in range(8)]
    found = report(tmp_path, choosing(GOLD, SAID, list(map(str, GOLD)), choices)).labels
    assert found is not None and found.by_place and found.labels == ("1", "2", "3", "4")


def test_of_several_right_choices_the_one_that_was_answered_counts(tmp_path: Path) -> None:
    samples = choosing([0, 2, 1], [0, 2, 0], ["[0, 1]", "[1, 2]", "[1, 2]"], LABELS[:3])
    found = report(tmp_path, samples).labels
    assert found is not None and found.accuracy.value == pytest.approx(2 / 3)
    assert found.confusion == ((1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0))


def test_of_two_choices_the_right_one_follows_from_the_accuracy(tmp_path: Path) -> None:
    samples = choosing([0, 1, 1, 0], [0, 0, 1, 0], [" and so on."] * 4, [(" went", " came")] * 4)
    found = report(tmp_path, samples).labels
    assert found is not None and found.confusion == ((2, 0, 0), (1, 1, 0))


def test_no_report_contradicts_the_stored_accuracy(tmp_path: Path) -> None:
    wrong = choosing([1, 2, 0], [0, 1, 2], ["0", "0", "0"], LABELS[:3])  # the targets say otherwise than the scores
    found = report(tmp_path, wrong)
    assert found.labels is None and found.reason is not None and "cannot be told" in found.reason


def test_failed_samples_are_counted_and_left_out(tmp_path: Path) -> None:
    samples = choosing(GOLD, SAID, list(map(str, GOLD)), LABELS)
    samples[2] = dataclasses.replace(samples[2], status="failed", reason="no memory", metrics={}, responses=(None,) * 3)
    found = report(tmp_path, samples)
    assert (found.n, found.failed) == (7, 1)
    assert found.labels is not None and found.labels.accuracy.value == 5 / 7


def generated(
    targets: Sequence[str], texts: Sequence[str], scores: Sequence[dict[str, Any]] | None = None
) -> list[Any]:
    made = build.make_samples(build.make_candidate(), len(targets))
    return [
        dataclasses.replace(
            sample,
            document=dataclasses.replace(sample.document, target=target, choices=()),
            responses=(text,),
            request_hashes=sample.request_hashes[:1],
            metrics={"none": scores[i] if scores else {"exact_match": float(text.strip() == target)}},
        )
        for i, (sample, target, text) in enumerate(zip(made, targets, texts, strict=True))
    ]


def test_generated_labels_have_a_confusion_and_answers_that_are_none(tmp_path: Path) -> None:
    texts = [" yes", "no", "no ", "Well, yes", "no", "yes"]
    found = report(tmp_path, generated(["yes", "yes", "no", "no", "no", "yes"], texts), output_type="generate_until")
    assert found.labels is not None and found.labels.labels == ("no", "yes")
    assert found.labels.confusion == ((2, 0, 1), (1, 2, 0))
    assert found.labels.calibration is None
    assert found.labels.accuracy.value == pytest.approx(4 / 6)


def test_sentences_that_repeat_are_no_labels(tmp_path: Path) -> None:
    targets = ["The shop opens at nine on every day of the week.", "The shop is closed on Sundays and on holidays."] * 3
    found = report(tmp_path, generated(targets, targets), output_type="generate_until")

    assert found.labels is None and found.answers is not None
    assert "different targets, which are no labels" in (found.reason or "")


def test_scores_of_repetitive_answers_stand_beside_those_of_the_others(tmp_path: Path) -> None:
    targets = [f"sentence number {i} says this" for i in range(4)]
    texts = ["says says says says says", targets[1], "", targets[3]]
    scores = [{"rouge1": 0.4}, {"rouge1": 1.0}, {"rouge1": 0.0}, {"rouge1": 1.0}]
    found = report(tmp_path, generated(targets, texts, scores), output_type="generate_until")
    assert found.labels is None and found.reason is not None and "no labels" in found.reason
    answers = found.answers
    assert answers is not None
    assert (answers.repetitive, answers.empty) == (0.25, 0.25)
    assert answers.scores == {"rouge1": (0.4, pytest.approx(2 / 3))}
    assert answers.brevity_penalty is None


def test_the_brevity_penalty_comes_from_the_texts_that_lm_eval_keeps(tmp_path: Path) -> None:
    sacrebleu = pytest.importorskip("sacrebleu.metrics")
    targets, texts = ["a b c d e f", "g h i j k"], ["a b c d", "g h i j"]
    pieces = [{"bleu": [target, text]} for target, text in zip(targets, texts, strict=True)]
    signed = {"metric_list": [{"metric": "bleu", "signature": "nrefs:1"}]}
    found = report(tmp_path, generated(targets, texts, pieces), output_type="generate_until", **signed)
    assert found.answers is not None
    assert found.answers.brevity_penalty == pytest.approx(sacrebleu.BLEU().corpus_score(texts, [targets]).bp)
    assert found.signatures == {"bleu": "nrefs:1"}


def test_a_group_has_no_report_of_its_own(tmp_path: Path) -> None:
    db = store(tmp_path, choosing(GOLD, SAID, list(map(str, GOLD)), LABELS))
    again = Store(db)
    run = again.start_run(build.make_provenance())
    again.commit(run, build.make_result(task=build.make_task("toys"), kind="group", samples=(), members=("toy",)))
    with pytest.raises(DataError, match="is a group"):
        task_report(db, "base", "toys")
