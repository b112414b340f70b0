from __future__ import annotations

import pytest

from tuneboard.report.answers import watched


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"rouge1": 0.4, "repetitive": 0.37},
            ["37% of the answers repeat themselves", "rouge1 may come from repeated words"],
        ),
        (
            {"bleu": 12.0, "brevity_penalty": 0.61, "length_ratio": 0.5},
            ["bleu is lowered to 61% of what its words earn"],
        ),
        ({"rougeL": 0.4, "length_ratio": 2.25}, ["2.2 times as long as their references"]),
        ({"rougeL": 0.4, "length_ratio": 0.5}, ["50% of the length of their references"]),
        ({"exact_match": 0.0, "empty": 0.2}, ["20% of the answers are empty"]),
    ],
)
def test_what_speaks_against_a_score_is_said(values: dict[str, float], expected: list[str]) -> None:
    (line,) = watched(values)
    assert all(part in line for part in expected)


def test_sound_answers_and_tasks_without_these_statistics_have_no_note() -> None:
    assert watched({"acc": 0.3}) == []
    sound = {"bleu": 30.0, "brevity_penalty": 0.98, "length_ratio": 0.98, "repetitive": 0.01, "empty": 0.0}
    assert watched(sound) == []
