"""SQuAD's scores follow the official scripts, versions 1.1 and 2.0."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def squad(scorer: Callable[[str], ModuleType]) -> ModuleType:
    return scorer("squad")


def doc(*answers: str) -> dict[str, Any]:
    return {"answers": {"text": list(answers), "answer_start": [0] * len(answers)}}


def v2(squad: ModuleType, said: str, *answers: str, none: float = 0.1) -> dict[str, Any]:
    return squad.score_v2(doc(*answers), [said, (math.log(none), False)])


@pytest.mark.parametrize(
    ("said", "answers", "exact", "f1"),
    [
        ("Denver Broncos", ["Denver Broncos"], 100, 100),
        # Case, punctuation, articles and blanks do not count.
        (" the  denver broncos.", ["Denver Broncos"], 100, 100),
        ("“Denver” Broncos", ["Denver Broncos"], 0, 50),  # only ASCII punctuation is taken away
        ("U.S.", ["US"], 100, 100),
        ("twenty-one", ["twenty one"], 0, 0),  # punctuation leaves no blank behind
        ("a theatre", ["theatre"], 100, 100),  # an article is a whole word
        ("theatre", ["atre"], 0, 0),
        # Two of three words right, both of the answer's: 2 * 1 * 2/3 / (1 + 2/3).
        ("Super Bowl", ["Super Bowl 50"], 0, 80),
        # Words count as often as they stand.
        ("no no no", ["no"], 0, 50),
        # The best of several answers, each score by itself.
        ("Bowl 50", ["Super Bowl 50 final", "50", "Bowl 50"], 100, 100),
        ("Bowl 50", ["Super Bowl 50 final", "50"], 0, 100 * 2 / 3),
        ("Paris", ["London"], 0, 0),
        ("", ["London"], 0, 0),
    ],
)
def test_both_versions_agree_on_answers_with_words(
    squad: ModuleType, said: str, answers: list[str], exact: float, f1: float
) -> None:
    assert squad.score_v1(doc(*answers), [said]) == pytest.approx({"exact_match": exact, "f1": f1})
    found = v2(squad, said, *answers)
    assert (found["exact"], found["f1"]) == (found["HasAns_exact"], found["HasAns_f1"]) == pytest.approx((exact, f1))
    assert not [key for key in found if key.startswith("NoAns")]


def test_an_answer_of_articles_alone_is_empty(squad: ModuleType) -> None:
    # Version 1.1: nothing is shared, so no F1; version 2.0: an answer without words is no answer among the right ones.
    assert squad.score_v1(doc("The"), ["a"]) == {"exact_match": 100, "f1": 0}
    assert (v2(squad, "a", "The")["exact"], v2(squad, "a", "The")["f1"]) == (100, 100)
    assert v2(squad, "", "The", "Who")["f1"] == 0 and v2(squad, "Who", "The", "Who")["f1"] == 100


def test_a_question_without_an_answer_is_answered_by_nothing(squad: ModuleType) -> None:
    right, wrong = v2(squad, ""), v2(squad, "Paris")
    assert (right["exact"], right["f1"], right["NoAns_exact"], right["NoAns_f1"]) == (100, 100, 100, 100)
    assert (wrong["exact"], wrong["f1"], wrong["NoAns_exact"], wrong["NoAns_f1"]) == (0, 0, 0, 0)
    # What normalises to nothing scores as nothing.
    assert v2(squad, " The.")["exact"] == 100
    assert not [key for key in right if key.startswith("HasAns")]


def test_the_best_threshold_is_found_as_by_trying_them_all(squad: ModuleType) -> None:
    draw = random.Random(0)
    for _ in range(200):
        n = draw.randint(1, 12)
        rows = [
            (draw.random(), draw.choice(["Paris", "the Paris region", "London", ""]), draw.random() < 0.5)
            for _ in range(n)
        ]
        found = [v2(squad, said, *(["Paris"] if known else []), none=none) for none, said, known in rows]

        def total(threshold: float, metric: str, rows: Any = rows, found: Any = found) -> float:
            scores = [
                one[metric] if none <= threshold else 0.0 if known else 100.0
                for (none, _, known), one in zip(rows, found, strict=True)
            ]
            return sum(scores) / len(scores)

        for metric in ("exact", "f1"):
            tried = [total(threshold, metric) for threshold in [-1.0, *(none + 1e-6 for none, _, _ in rows)]]
            assert squad.best_score([one[f"best_{metric}"] for one in found]) == pytest.approx(max(tried))


def test_a_text_for_a_question_without_an_answer_costs_even_if_it_normalises_to_nothing(squad: ModuleType) -> None:
    # The official search for a threshold looks at the raw text.
    assert squad.best_score([v2(squad, "The", none=0.1)["best_exact"]]) == 100
    items = [v2(squad, "The", none=0.1)["best_exact"], v2(squad, "Paris", "Paris", none=0.9)["best_exact"]]
    assert squad.best_score(items) == 50


def test_ties_of_the_threshold_are_those_of_32_bits(squad: ModuleType) -> None:
    chance, _, _ = v2(squad, "Paris", "Paris", none=0.1)["best_f1"]
    assert chance != 0.1 and chance == pytest.approx(0.1, rel=1e-7)


def test_record_takes_the_likeliest_entity_and_the_best_of_the_right_ones(squad: ModuleType) -> None:
    passage = {"entities": ["New York", "the York minster", "Deal"], "answers": ["York Minster", "Minster"]}
    assert squad.score_record(passage, [(-3.0, False), (-1.0, False), (-2.0, True)]) == {"f1": 1.0, "em": 1.0}
    assert squad.score_record(passage, [(-1.0, False), (-2.0, False), (-3.0, True)]) == {"f1": 0.5, "em": 0.0}
