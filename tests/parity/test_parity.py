"""Metrics, log-probabilities and texts are lm-eval's own, with and without an adapter, on real benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from parity.judging import DOUBLE_TOLERANCE, assert_metrics_equal, compare
from parity.sides import Note, Question, Subject, lm_eval_side, tuneboard_side

MMLU = tuple(
    f"mmlu_{subject}"
    for subject in (
        "abstract_algebra",
        "business_ethics",
        "computer_security",
        "global_facts",
        "medical_genetics",
        "us_foreign_policy",
    )
)
CHOICES = ("hellaswag", "arc_easy", "arc_challenge")
TRUTH = ("truthfulqa_mc1", "truthfulqa_mc2")
TEXTS = ("gsm8k", "truthfulqa_gen")

# The larger model costs lm-eval up to half a second a request: few documents. The smaller one's long sums in float32
# come up to 9.4e-5 from lm-eval's, more or less by processor and threads: everyday, double precision compares them.
EVERYDAY = {
    ("stories", "mmlu"): Question(MMLU[:3], 5, 20),
    ("stories", "choices"): Question((*CHOICES, *TRUTH), None, 20, "float64"),
    ("stories", "math"): Question(("gsm8k",), None, 20),
    ("stories", "texts"): Question(("truthfulqa_gen",), None, 4),
    ("random29m", "mmlu"): Question(MMLU[3:4], 5, 5),
    ("random29m", "choices"): Question((*CHOICES, *TRUTH), None, 4),
    ("random29m", "texts"): Question(TEXTS, None, 1),
}
IN_FULL = {
    ("stories", "mmlu"): Question(MMLU, 5, None),
    ("stories", "groups"): Question(("mmlu",), 5, 3),
    ("stories", "choices"): Question(CHOICES, None, 1000),
    ("stories", "truth"): Question(TRUTH, None, 150),
    ("stories", "texts"): Question(TEXTS, None, 150),
    ("random29m", "mmlu"): Question(MMLU, 5, None),
    ("random29m", "choices"): Question(CHOICES, None, 100),
    ("random29m", "truth"): Question(TRUTH, None, 30),
    ("random29m", "texts"): Question(TEXTS, None, 12),
}


@pytest.fixture
def check(request: Any, mirror: Path, tmp_path: Path, note: Note) -> Callable[..., None]:
    def run(name: str, question: Question) -> None:
        hold_together(request.getfixturevalue(name), question, mirror, tmp_path / "parity.duckdb", note)

    return run


def hold_together(subject: Subject, question: Question, mirror: Path, db: Path, note: Note) -> None:
    ours = tuneboard_side(subject, question, mirror, db)
    answers: dict[bool, list[Any]] = {}
    for with_adapter in (False, True):
        theirs = lm_eval_side(subject, question, mirror, with_adapter)
        mine = ours[with_adapter]
        assert mine.samples.keys() == theirs.samples.keys()
        label = f"{subject.name}{' + adapter' if with_adapter else ''}"
        for task in theirs.samples:
            report = compare(task, mine, theirs, subject, with_adapter)
            note(report.line(f"{label}, {task} in {question.dtype}"))
            assert question.dtype == "float32" or report.worst < DOUBLE_TOLERANCE
        for group in theirs.metrics.keys() - theirs.samples.keys():
            assert_metrics_equal(group, mine.metrics[group], theirs.metrics[group])
        answers[with_adapter] = [s["responses"] for rows in mine.samples.values() for s in rows.values()]
    assert answers[False] != answers[True], "the adapter was applied"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", EVERYDAY, ids="-".join)
def test_a_few_documents_of_every_task_equal_lm_eval(case: tuple[str, str], check: Any) -> None:
    check(case[0], EVERYDAY[case])


@pytest.mark.accept
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", IN_FULL, ids="-".join)
def test_whole_tasks_equal_lm_eval(case: tuple[str, str], check: Any) -> None:
    check(case[0], IN_FULL[case])


@pytest.mark.accept
@pytest.mark.timeout(3600)
def test_all_of_truthfulqa_equals_lm_eval_in_double_precision(
    stories: Subject, mirror: Path, tmp_path: Path, note: Note
) -> None:
    """Sums near -300 over a hundred tokens are off by up to 1.1e-4 in float32, on both sides and in other places with
    other numbers of threads. So all of the set is held together in double precision, where nothing but the way of
    computing can differ, and its first 150 documents, above, in float32.
    """
    question = Question(TRUTH, None, None, "float64")
    ours = tuneboard_side(stories, question, mirror, tmp_path / "parity.duckdb")
    for with_adapter in (False, True):
        exact = lm_eval_side(stories, question, mirror, with_adapter)
        for task in TRUTH:
            report = compare(task, ours[with_adapter], exact, stories, with_adapter)
            note(report.line(f"{stories.name}{' + adapter' if with_adapter else ''}, {task} in double"))
            assert report.requests > 3_000
            assert report.worst < DOUBLE_TOLERANCE
