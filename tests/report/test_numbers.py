from __future__ import annotations

import json
import math

import pytest

from tuneboard.report.numbers import json_text, number, p_value


def test_json_has_null_for_what_is_not_a_finite_number_at_any_depth() -> None:
    text = json_text({"a": [1.5, math.nan, {"b": (math.inf, -math.inf, "NaN")}], "c": None})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [1.5, None, {"b": [None, None, "NaN"]}], "c": None}


def test_json_is_ascii_even_of_half_a_surrogate_pair() -> None:
    text = json_text(["é", "\ud83d"], indent=2)
    assert text.isascii() and json.loads(text) == ["é", "\ud83d"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.2500"),
        (-3.0, "-3.0000"),
        (12.3456, "12.35"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "minus infinite"),
    ],
)
def test_numbers_are_written_in_digits_or_in_words(value: float, text: str) -> None:
    assert number(value) == text


def test_a_sign_is_shown_where_asked_for() -> None:
    assert (number(0.5, "+"), number(20.0, "+"), number(math.inf, "+")) == ("+0.5000", "+20", "infinite")


@pytest.mark.parametrize(
    ("p", "text"), [(0.0421, "0.042"), (1e-4, "0.0001"), (9e-5, "<1e-4"), (math.nan, "not a number")]
)
def test_a_p_value_that_is_no_number_is_not_taken_for_a_small_one(p: float, text: str) -> None:
    assert p_value(p) == text
