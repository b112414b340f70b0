from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.data.mixing import Pool, balance, draw, mix, mixture_sizes
from tuneboard.tuning.records import Example


def pool(name: str, count: int, weight: float | None = None) -> Pool:
    return Pool(name, weight, [Example(f"{name} {n}", place=name) for n in range(count)])


def labelled(**counts: int) -> list[Example]:
    return [Example(f"{label} {n}", label, format="label") for label, count in counts.items() for n in range(count)]


@pytest.mark.parametrize(
    ("sources", "sizes"),
    [
        ([(100, None), (10, None)], (100, 10)),
        ([(100, 1), (10, 1)], (10, 10)),
        ([(200, 1), (10_000, 1)], (200, 200)),
        ([(900, 3), (100, 1)], (300, 100)),
        ([(70, 0.7), (1000, 0.3)], (70, 30)),
        ([(100, 2), (100, None)], (100, 50)),
        ([(10, 1000), (10, 1)], (10, 1)),
        ([(5, 2.5)], (5,)),
    ],
)
def test_sizes_follow_weights_and_take_no_row_twice(sources, sizes: tuple[int, ...]) -> None:
    assert mixture_sizes([pool(str(n), count, weight) for n, (count, weight) in enumerate(sources)]) == sizes


@given(
    sources=st.lists(st.tuples(st.integers(1, 300), st.floats(0.1, 10)), min_size=1, max_size=4), seed=st.integers(0, 5)
)
def test_a_mixture_holds_the_shares_and_no_row_twice(sources: list[tuple[int, float]], seed: int) -> None:
    pools = [pool(str(n), count, weight) for n, (count, weight) in enumerate(sources)]
    mixed = mix(pools, seed)
    counts = Counter(example.place for example in mixed)
    assert len(set(mixed)) == len(mixed)
    assert any(counts[p.name] == len(p.examples) for p in pools)
    scale = min(count / weight for count, weight in sources)
    for p in pools:
        assert abs(counts[p.name] - p.weight * scale) <= 1


def test_one_seed_is_one_mixture() -> None:
    pools = [pool("a", 50, 1), pool("b", 500, 1)]
    assert mix(pools, 3) == mix(pools, 3)
    assert mix(pools, 3) != mix(pools, 4)
    assert set(mix(pools, 3)) != set(mix(pools, 4))


@given(size=st.integers(2, 399))
def test_any_beginning_of_a_mixture_holds_the_shares(size: int) -> None:
    mixed = mix([pool("a", 300, 3), pool("b", 100, 1)], 0)
    counts = Counter(example.place for example in mixed[:size])
    assert abs(counts["b"] - size / 4) <= 1


def test_a_weighted_source_with_nothing_left_is_named() -> None:
    with pytest.raises(DataError, match="no training row of b is left for the mixture"):
        mix([pool("a", 5, 1), pool("b", 0, 1)], 0)
    assert len(mix([pool("a", 5), pool("b", 0)], 0)) == 5


def test_undersampling_takes_as_many_of_each_label_as_the_rarest_has() -> None:
    evened = balance(labelled(a=50, b=5, c=20), "undersample")
    assert Counter(example.answer for example in evened) == {"a": 5, "b": 5, "c": 5}
    assert len(set(evened)) == 15


def test_oversampling_repeats_each_row_nearly_as_often_as_the_next() -> None:
    evened = balance(labelled(a=50, b=20, c=1), "oversample")
    assert Counter(example.answer for example in evened) == {"a": 50, "b": 50, "c": 50}
    repeats = Counter(example.text for example in evened if example.answer == "b")
    assert set(repeats.values()) == {2, 3}


def test_balance_leaves_other_formats_alone_and_spreads_labels() -> None:
    other = [Example(f"o{n}") for n in range(7)]
    evened = balance([*labelled(a=9, b=3), *other], "undersample")
    assert Counter(example.format for example in evened) == {"label": 6, "text": 7}
    halves = balance(labelled(a=40, b=10), "oversample")[:20]
    assert Counter(example.answer for example in halves) == {"a": 10, "b": 10}


def test_balance_needs_labels() -> None:
    with pytest.raises(UsageError, match=r"cleaning\.balance: oversample evens out labels, and the data have none"):
        balance([Example("a")], "oversample")
    assert balance([Example("a")], "none") == [Example("a")]


@given(count=st.integers(0, 60), fewer=st.integers(0, 60), seed=st.integers(0, 4))
def test_a_smaller_draw_is_part_of_a_larger_one(count: int, fewer: int, seed: int) -> None:
    items = list(range(50))
    large, small = (draw(items, n, seed, "x") for n in (max(count, fewer), min(count, fewer)))
    assert set(small) <= set(large)
    assert large == sorted(large)
    assert len(large) == min(50, max(count, fewer))


def test_draws_of_other_purposes_differ() -> None:
    assert draw(range(100), 10, 0, "a") != draw(range(100), 10, 0, "b")
    assert draw(range(3), None, 0, "a") == [0, 1, 2]
