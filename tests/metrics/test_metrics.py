"""Every metric gives the number of the library that settled it, for whole corpora and for any part of one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tuneboard.errors import UnknownName
from tuneboard.metrics import find_metric, find_metrics, is_neutral, metric_names, with_companions
from tuneboard.metrics.exact_match import normalized_answer
from tuneboard.metrics.repetition import repetition, repetitive

WORDS = [
    "The",
    "cat",
    ",",
    "sat",
    "on",
    "a",
    "MAT",
    ".",
    "while",
    "two",
    "dogs'",
    "paws",
    "ran",
    "3.5",
    "km",
    "—",
    "over",
    "grüne",
    "Hügel",
]


def corpus(seed: int, n: int = 60, references: int = 1) -> tuple[list[list[str]], list[str]]:
    """References of each sample, and answers: damaged, cut, lengthened, looped, empty."""
    draw = random.Random(seed)
    all_references, answers = [], []
    for i in range(n):
        words = [draw.choice(WORDS) for _ in range(4 + i % 14)]
        said = [word if draw.random() > 0.3 else draw.choice(WORDS) for word in words]
        shape = i % 6
        text = ["", " ".join(said[: len(said) // 2]), " ".join(said * 3)][shape] if shape < 3 else " ".join(said)
        others = [" ".join(draw.choice(WORDS) for _ in range(3 + i % 9)) for _ in range(references - 1)]
        all_references.append([" ".join(words), *others])
        answers.append(text)
    return all_references, answers


def value(name: str, references: Sequence[Sequence[str]], answers: Sequence[str]) -> float:
    metric = find_metric(name)
    assert metric is not None
    pieces = [metric.of_answers(each, [answer]) for each, answer in zip(references, answers, strict=True)]
    return metric.corpus(pieces) if metric.corpus is not None else sum(pieces) / len(pieces)


SACREBLEU = [("bleu", "BLEU", {}), ("chrf", "CHRF", {}), ("chrf++", "CHRF", {"word_order": 2}), ("ter", "TER", {})]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("name", "kind", "settings"), SACREBLEU, ids=[one[0] for one in SACREBLEU])
def test_corpus_scores_are_sacrebleus(name: str, kind: str, settings: dict[str, Any], count: int) -> None:
    scorers = pytest.importorskip("sacrebleu.metrics")
    for seed in range(3):
        references, answers = corpus(seed, references=count)
        scorer = getattr(scorers, kind)(**settings)
        expected = scorer.corpus_score(answers, [list(side) for side in zip(*references, strict=True)])
        assert value(name, references, answers) == pytest.approx(expected.score, rel=1e-12)
        metric = find_metric(name)
        assert metric is not None and metric.signature is not None
        assert metric.signature(references) == str(scorer.get_signature())
        if name == "bleu":
            assert value("brevity_penalty", references, answers) == pytest.approx(expected.bp, rel=1e-12)


def test_a_varying_number_of_references_is_signed_so() -> None:
    pytest.importorskip("sacrebleu")
    (metric,) = find_metrics(["bleu"])
    assert metric.signature is not None
    assert metric.signature([["a"], ["a", "b"]]).startswith("nrefs:var|")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_is_rouge_scores(name: str, count: int) -> None:
    scorers = pytest.importorskip("rouge_score.rouge_scorer")
    references, answers = corpus(4, references=count)
    answers = [answer.replace(" , ", "\n") for answer in answers]
    scorer = scorers.RougeScorer([name])
    expected = [scorer.score_multi(each, said)[name].fmeasure for each, said in zip(references, answers, strict=True)]
    assert value(name, references, answers) == pytest.approx(sum(expected) / len(expected), rel=1e-12)


def labels(seed: int, count: int, n: int = 70) -> tuple[list[int], list[int]]:
    draw = random.Random(seed)
    gold = [draw.randrange(count) for _ in range(n)]
    return gold, [one if draw.random() < 0.6 else draw.randrange(count) for one in gold]


@pytest.mark.parametrize("count", [2, 5, 9])
def test_scores_of_labels_are_scikit_learns(count: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    expected = {
        "acc": sklearn.accuracy_score,
        "f1_macro": lambda gold, said: sklearn.f1_score(gold, said, average="macro"),
        "mcc": sklearn.matthews_corrcoef,
    }
    for seed in range(3):
        gold, said = labels(seed, count)
        for metric in find_metrics(["labels"]):
            pieces = [metric.score(one, other, count) for one, other in zip(gold, said, strict=True)]
            found = metric.corpus(pieces) if metric.corpus else sum(pieces) / len(pieces)
            assert found == pytest.approx(expected[metric.name](gold, said), rel=1e-12), metric.name


def test_labels_that_are_never_told_apart_score_0_and_no_more() -> None:
    f1, mcc = (find_metric(name) for name in ("f1_macro", "mcc"))
    assert f1 is not None and f1.corpus is not None and mcc is not None and mcc.corpus is not None
    assert mcc.corpus([[0, 1, 3], [2, 1, 3]]) == 0.0
    assert f1.corpus([[0, 1, 3], [2, 1, 3]]) == 0.0


def test_matching_and_overlap_follow_squad() -> None:
    assert normalized_answer("The  Cat's, a HAT!") == "cats hat"
    assert value("exact_match", [["Paris"], ["Paris"], ["a", "b "]], [" Paris\n", "paris", "b"]) == pytest.approx(2 / 3)
    assert value("normalized_match", [["the Paris."], ["Rome"]], ["paris", "Roma"]) == 0.5
    # "cat sat here" against "the cat sat": 2 words in common, 3 said, 2 meant.
    assert value("token_f1", [["the cat sat"]], ["cat sat here"]) == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))
    assert value("token_f1", [["x", "cat cat"]], ["cat cat cat"]) == pytest.approx(0.8)
    assert value("token_f1", [["the"], ["the"], ["word"]], ["", "word", ""]) == pytest.approx(1 / 3)


def test_pass_at_k_is_the_unbiased_estimate_of_its_answers() -> None:
    two = find_metric("pass@2")
    assert two is not None
    assert two.of_answers(["4"], ["4", "5", " 4 ", "6"]) == pytest.approx(1 - (2 * 1) / (4 * 3))
    assert find_metric("pass@0") is None and find_metric("pass@") is None


def test_several_answers_to_a_prompt_are_averaged_or_summed() -> None:
    pytest.importorskip("sacrebleu")
    exact, bleu = find_metrics(["exact_match", "bleu"])
    assert exact.of_answers(["a"], ["a", "b"]) == 0.5
    both = bleu.of_answers(["the cat sat on the mat"], ["the cat sat", "a cat sat on the mat"])
    assert both[0] == 9 and both[1] == 12


def test_repetition_counts_sequences_that_stood_before() -> None:
    assert repetition("the cat sat on the mat and slept") == 0.0
    assert repetition("no no no no no") == pytest.approx(2 / 3)
    assert repetition("two words") == 0.0
    assert repetition("ja" * 30) > 0.9
    assert repetition("1000000") == 0.0


def test_only_answers_that_repeat_more_than_their_references_count_as_repetitive() -> None:
    loop = "row row row your boat row row row your boat"
    assert repetitive(["Say something."], loop) == 1.0
    assert repetitive([loop], loop) == 0.0
    assert repetitive(["Say something."], "A plain answer that says it once.") == 0.0


def test_a_rouge_that_comes_from_repeated_words_is_seen_and_so_is_a_bleu_that_is_short() -> None:
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    references = [["the tall man saw the small dog in the old garden"]] * 4
    gamed = ["the the the the the the the the"] * 4
    assert value("rouge1", references, gamed) > 0.3
    assert value("repetitive", references, gamed) == 1.0
    short = ["the tall man saw the small"] * 4
    assert value("brevity_penalty", references, short) == pytest.approx(np.exp(1 - 11 / 6))
    assert value("length_ratio", references, short) == pytest.approx(26 / 48)
    assert value("empty", references, ["", " \n", "a", "b"]) == 0.5


def test_a_task_of_answers_is_always_watched() -> None:
    names = [metric.name for metric in with_companions(find_metrics(["bleu", "exact_match"]))]
    assert names[:2] == ["bleu", "exact_match"]
    assert set(names[2:]) == {"brevity_penalty", "length_ratio", "empty", "repetition", "repetitive"}
    assert "brevity_penalty" not in [metric.name for metric in with_companions(find_metrics(["rouge"]))]
    assert is_neutral("length_ratio") and not is_neutral("bleu") and not is_neutral("acc_norm")


def test_metrics_are_found_by_name_or_by_file_and_unknown_ones_have_near_matches() -> None:
    assert [one.name for one in find_metrics(["rouge", "rouge1"])] == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert {"bleu", "rouge", "chrf++", "token_f1", "pass@1"} <= set(metric_names("answers"))
    assert set(metric_names("labels")) == {"labels", "acc", "f1_macro", "mcc"}
    with pytest.raises(UnknownName, match="unknown metric 'blue'; did you mean bleu"):
        find_metrics(["blue"])
