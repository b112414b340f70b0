from typing import Any

import pytest

from tuneboard.tuning.data.cleaning import clean, is_empty, step_of
from tuneboard.tuning.records import CleaningSpec, Example

LONG = " ".join(f"word{number}" for number in range(60))
ADDRESS = "jane.doe" + "@acme-tools.com"


def example(text: str, place: int, **fields: Any) -> Example:
    return Example(text, place=f"rows.jsonl line {place}", **fields)


ROWS = [
    example("One thing.", 1),
    example("  \n", 2),
    example("one  THING.", 3),
    example(LONG, 4),
    example(f"Write to {ADDRESS}.", 5),
    example(LONG + " more", 6),
    example("Another thing.", 7),
]


def test_each_step_counts_what_it_took_and_names_the_rows():
    kept, steps = clean(ROWS, CleaningSpec())
    assert [one.place[-1] for one in kept] == ["1", "4", "5", "7"]
    told = {step.name: (step.removed, step.flagged, step.places) for step in steps}
    assert told == {
        "empty rows": (1, 0, ("rows.jsonl line 2",)),
        "exact duplicates": (1, 0, ("rows.jsonl line 3 (as rows.jsonl line 1)",)),
        "near-duplicates": (1, 0, ("rows.jsonl line 6 (as rows.jsonl line 4)",)),
        "secrets": (0, 1, ("rows.jsonl line 5 (e-mail address at character 10)",)),
    }
    assert list(told) == ["empty rows", "exact duplicates", "near-duplicates", "secrets"]


def test_what_is_taken_and_what_is_left_is_all_there_was():
    kept, steps = clean(ROWS, CleaningSpec(secrets="drop"))
    assert len(kept) + sum(step.removed for step in steps) == len(ROWS)
    assert ADDRESS not in "".join(one.whole for one in kept)


def test_steps_that_are_not_asked_for_are_not_taken():
    off = CleaningSpec(exact_duplicates=False, near_duplicates=None, empty=False, secrets="ignore")
    assert clean(ROWS, off) == (ROWS, [])


def test_a_step_that_meets_nothing_is_told_of_too():
    kept, steps = clean(ROWS[:1], CleaningSpec())
    assert kept == ROWS[:1]
    assert [(step.removed, step.flagged, step.places) for step in steps] == [(0, 0, ())] * 4


def test_no_row_is_no_trouble():
    kept, steps = clean([], CleaningSpec())
    assert kept == []
    assert len(steps) == 4


def test_a_report_never_holds_a_secret():
    key = "AKIA" + "QZ3MB7WKXN5TRD2J"
    _, steps = clean([example(f"{ADDRESS} {key} {ADDRESS} {ADDRESS}", 1)], CleaningSpec())
    assert steps[-1].places == (
        "rows.jsonl line 1 (e-mail address at character 1, AWS access key at character 25, "
        "e-mail address at character 46, and 1 more)",
    )


def test_twenty_places_are_named_and_all_are_counted():
    _, steps = clean([example("", number) for number in range(50)], CleaningSpec())
    assert steps[0].removed == 50
    assert len(steps[0].places) == 20
    over_long = step_of("over-long rows", ["a", "b"], removed=True)
    assert (over_long.removed, over_long.flagged, over_long.places) == (2, 0, ("a", "b"))


@pytest.mark.parametrize(
    "row",
    [
        Example(" "),
        Example("Why?", " ", format="completion"),
        Example("Why?", format="instruction"),
        Example("", "positive", format="label"),
        Example("A fine film", "", format="label"),
        Example("", format="chat"),
        Example("", format="chat", messages=(("user", "Hello?"),)),
        Example("", format="chat", messages=(("user", "Hello?"), ("assistant", " "))),
    ],
)
def test_rows_without_anything_to_learn_are_empty(row: Example):
    assert is_empty(row)


@pytest.mark.parametrize(
    "row",
    [
        Example("0"),
        Example("", "An answer to nothing", format="completion"),
        Example("", "entailment", format="label", text_pair="It rains."),
        Example("", format="chat", messages=(("user", ""), ("assistant", "Hello."))),
    ],
)
def test_rows_with_something_to_learn_are_not_empty(row: Example):
    assert not is_empty(row)
