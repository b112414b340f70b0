from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.data.splits import split_examples, text_identity
from tuneboard.tuning.records import Example, SplitSpec


def texts(count: int, **values) -> list[Example]:
    return [Example(f"text {n}", place=f"a line {n}", **values) for n in range(count)]


def labelled(**counts: int) -> list[Example]:
    return [
        Example(f"{label} {n}", label, format="label", place=f"{label} {n}")
        for label, count in counts.items()
        for n in range(count)
    ]


def places(examples: list[Example]) -> set[str]:
    return {example.place for example in examples}


some = st.lists(
    st.builds(
        Example,
        text=st.sampled_from([f"t{n}" for n in range(12)]),
        answer=st.sampled_from("xyz"),
        format=st.just("label"),
        key=st.integers(0, 9).map(str),
        replay=st.booleans(),
    ),
    max_size=30,
)
specs = st.builds(
    SplitSpec,
    by=st.sampled_from(["holdout", "stratified", "kfold", "time"]),
    fraction=st.floats(0.05, 0.9),
    folds=st.integers(2, 6),
    fold=st.integers(0, 1),
    seed=st.integers(0, 3),
)


@given(examples=some, spec=specs)
def test_no_text_stands_on_both_sides_and_no_row_is_lost(examples: list[Example], spec: SplitSpec) -> None:
    try:
        train, validation = split_examples(examples, spec)
    except DataError as error:
        assert f"of {len(examples)} rows" in str(error)
        return
    assert train and validation
    assert Counter(train) + Counter(validation) == Counter(examples)
    assert not {text_identity(example) for example in train} & {text_identity(example) for example in validation}
    assert not any(example.replay for example in validation)


@pytest.mark.parametrize("by", ["holdout", "stratified", "kfold"])
def test_one_seed_is_one_split(by: str) -> None:
    examples = labelled(x=40, y=60)
    first, again, other = (split_examples(examples, SplitSpec(by=by, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert places(first[1]) != places(other[1])


@pytest.mark.parametrize(("rows", "fraction", "count"), [(100, 0.1, 10), (7, 0.1, 1), (5, 0.1, 1), (10, 0.5, 5)])
def test_a_holdout_is_the_share_of_the_rows_in_their_order(rows: int, fraction: float, count: int) -> None:
    examples = texts(rows)
    train, validation = split_examples(examples, SplitSpec(fraction=fraction))
    assert (len(train), len(validation)) == (rows - count, count)
    assert validation == [example for example in examples if example in validation]


def test_a_validation_split_of_nothing_says_how_many_rows_there_are() -> None:
    with pytest.raises(DataError, match=r"holdout \(10%\) of 4 rows, sets no row apart for validation; give more rows"):
        split_examples(texts(4), SplitSpec())
    with pytest.raises(DataError, match=r"of 1 rows"):
        split_examples(texts(1), SplitSpec(fraction=0.5))
    with pytest.raises(DataError, match=r"of 9 rows, 8 of them replay, which is never validated on, sets no row"):
        split_examples([*texts(8, replay=True), Example("new")], SplitSpec())
    with pytest.raises(DataError, match=r"kfold \(fold 4 of 5\) of 3 rows"):
        split_examples(texts(3), SplitSpec(by="kfold", fold=4))


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"of 2 rows, leaves nothing to train on"):
        split_examples(texts(2), SplitSpec(fraction=0.9))


def test_none_validates_on_nothing() -> None:
    examples = texts(3)
    assert split_examples(examples, SplitSpec(by="none")) == (examples, [])


def test_spellings_of_one_text_stay_together() -> None:
    examples = [
        Example(text, place=str(n)) for n, text in enumerate(["One  Text", "one text", "ONE\ntext"] * 4 + ["b", "c"])
    ]
    for seed in range(5):
        train, validation = split_examples(examples, SplitSpec(fraction=0.2, seed=seed))
        assert len({text_identity(row) for row in validation} & {text_identity(row) for row in train}) == 0


def test_a_text_with_two_labels_stays_together() -> None:
    a, b = Example("same", "x", format="label"), Example("Same", "y", format="label")
    assert text_identity(a) == text_identity(b)
    assert text_identity(Example("p", "x", format="completion")) != text_identity(
        Example("p", "y", format="completion")
    )


def test_the_new_row_that_replay_already_holds_is_trained_on() -> None:
    examples = [*texts(10), Example("text 3", replay=True)]
    for seed in range(10):
        train, _ = split_examples(examples, SplitSpec(fraction=0.3, seed=seed))
        assert sum(example.text == "text 3" for example in train) == 2


def test_strata_keep_their_shares() -> None:
    _, validation = split_examples(labelled(a=70, b=20, c=10), SplitSpec(by="stratified", fraction=0.1))
    assert Counter(example.answer for example in validation) == {"a": 7, "b": 2, "c": 1}


def test_the_largest_remainders_get_the_rows_that_rounding_leaves() -> None:
    _, validation = split_examples(labelled(a=16, b=14, c=3), SplitSpec(by="stratified", fraction=0.1))
    assert Counter(example.answer for example in validation) == {"a": 2, "b": 1}


def test_each_label_keeps_a_row_to_train_on() -> None:
    train, _ = split_examples(labelled(a=30, b=1, c=2), SplitSpec(by="stratified", fraction=0.8))
    assert {example.answer for example in train} == {"a", "b", "c"}


def test_strata_of_a_column() -> None:
    examples = [Example(f"t{n}", key="rare" if n < 10 else "common") for n in range(100)]
    _, validation = split_examples(examples, SplitSpec(by="stratified", fraction=0.2, column="kind"))
    assert Counter(example.key for example in validation) == {"rare": 2, "common": 18}


def test_strata_need_labels_or_a_column() -> None:
    with pytest.raises(UsageError, match=r"stratified needs labels, and a line 0 is in the format text"):
        split_examples(texts(10), SplitSpec(by="stratified"))


@pytest.mark.parametrize("rows", [10, 23, 100])
def test_folds_part_the_rows(rows: int) -> None:
    examples = texts(rows)
    sides = [split_examples(examples, SplitSpec(by="kfold", folds=5, fold=fold))[1] for fold in range(5)]
    assert Counter(example.place for side in sides for example in side) == Counter(
        example.place for example in examples
    )
    assert max(map(len, sides)) - min(map(len, sides)) <= 1


def test_folds_hold_each_label_alike() -> None:
    for fold in range(5):
        _, validation = split_examples(labelled(a=50, b=10), SplitSpec(by="kfold", fold=fold))
        assert Counter(example.answer for example in validation) == {"a": 10, "b": 2}


@pytest.mark.parametrize(
    "times",
    [
        [str(n) for n in (9, 10, 100, 2, 30, 1, 5, 6, 7, 8)],
        [f"2024-{month:02}-01" for month in (3, 11, 12, 2, 10, 1, 4, 5, 6, 7)],
        [
            f"2024-01-01T{hour:02}:00:00+{zone:02}:00"
            for hour, zone in zip(range(3, 13), [0, 0, 12, 1] + [9] * 6, strict=True)
        ],
    ],
)
def test_the_latest_rows_validate(times: list[str]) -> None:
    examples = [Example(f"t{n}", key=time) for n, time in enumerate(times)]
    _, validation = split_examples(examples, SplitSpec(by="time", fraction=0.2, column="when"))
    from datetime import datetime

    def moment(time: str) -> float:
        return float(time) if time.isdigit() else datetime.fromisoformat(time).timestamp()

    latest = sorted(times, key=moment)[-2:]
    assert {example.key for example in validation} == set(latest)


def test_times_that_are_none_are_named() -> None:
    examples = [Example("a", key="2024-01-01", place="a line 1"), Example("b", key="soon", place="a line 2")]
    with pytest.raises(DataError, match=r"a line 2 has the time 'soon'; expected numbers in every row, or ISO dates"):
        split_examples(examples, SplitSpec(by="time", fraction=0.5, column="when"))
