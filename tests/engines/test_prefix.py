"""Prefix plans: everything is computed, in a cache that always fits, and hardly anything twice."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneboard.engines.prefix import Budget, Crop, Extend, Pack, Plan, lay_out
from tuneboard.engines.tokens import Tokens, common_prefix, distinct_prefixes, sort_key


def walk(plan: Plan, steps: object = None) -> tuple[list[int], int]:
    """Follow a plan with a cache of tokens; returns the sequences that ended and the tokens computed."""
    cache: list[int] = []
    ended: list[int] = []
    computed = 0
    for step in steps or plan.steps():  # type: ignore[attr-defined]
        if isinstance(step, Crop):
            assert step.depth <= len(cache)
            cache = cache[: step.depth]
        elif isinstance(step, Extend):
            assert step.start == len(cache)
            assert 0 < step.stop - step.start <= plan.budget.row_tokens
            cache += plan.tokens[step.first][step.start : step.stop].tolist()
            computed += step.stop - step.start
            for sequence in step.sequences:
                assert plan.tokens[sequence][: len(cache)].tolist() == cache
                assert len(plan.tokens[sequence]) > len(cache), "a sequence ends in a Pack, never in an Extend"
        else:
            ended += check_row(plan, step, cache)
            computed += len(lay_out(plan, step).tokens)
    assert cache == [] or steps is not None
    return ended, computed


def check_row(plan: Plan, step: Pack, cache: list[int]) -> list[int]:
    row = lay_out(plan, step)
    assert step.depth == len(cache)
    assert len(row.tokens) <= plan.budget.row_tokens or len(row.slots) == 1
    assert len(row.slots) <= plan.budget.row_sequences
    owners: dict[int, list[int]] = {}
    for sequence, path in row.slots.items():
        assert cache + row.tokens[path].tolist() == plan.tokens[sequence].tolist()
        assert row.positions[path].tolist() == list(range(step.depth, len(plan.tokens[sequence])))
        for place, slot in enumerate(path.tolist()):
            owners[slot] = path[: place + 1].tolist()
    assert sorted(owners) == list(range(len(row.tokens))), "every slot of a row belongs to a sequence"
    for slot, ancestors in owners.items():
        assert np.flatnonzero(row.allowed[slot]).tolist() == ancestors, "a token sees its own ancestors only"
    return step.sequences


def trees(draw_from: random.Random, size: int) -> list[Tokens]:
    """Distinct sequences over three tokens, many of which share prefixes or are prefixes of each other."""
    found = set()
    for _ in range(size):
        base = tuple(draw_from.choices(range(3), k=draw_from.randint(1, 40)))
        cut = base[: draw_from.randint(1, len(base))]
        found |= {base, cut, cut + tuple(draw_from.choices(range(3), k=3))}
    return [np.array(sequence, dtype=np.int32) for sequence in found]


budgets = st.builds(
    Budget, st.sampled_from([1, 3, 8, 32, 200]), st.sampled_from([1, 2, 5, 1 << 30]), st.sampled_from([1, 4, 24])
)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 25), budget=budgets)
def test_every_sequence_ends_once_in_a_cache_that_holds_its_own_prefix(seed: int, size: int, budget: Budget) -> None:
    source = random.Random(seed)
    sequences = trees(source, size)
    plan = Plan(sequences, [source.randint(0, 3) for _ in sequences], budget)
    ended, computed = walk(plan)
    assert sorted(ended) == list(range(len(sequences)))
    assert [plan.tokens[i].tolist() for i in range(len(sequences))] == [sequences[j].tolist() for j in plan.source]
    prefixes = {tuple(sequence[:n].tolist()) for sequence in sequences for n in range(1, len(sequence) + 1)}
    assert plan.distinct == distinct_prefixes(sequences) == len(prefixes)
    assert computed >= plan.distinct


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 25), row_tokens=st.sampled_from([32, 64, 400]))
def test_no_shared_prefix_is_computed_twice_where_passes_are_free(seed: int, size: int, row_tokens: int) -> None:
    sequences = trees(random.Random(seed), size)
    plan = Plan(sequences, [0] * len(sequences), Budget(row_tokens, min_extend=1))
    _, computed = walk(plan)
    # The last token of a prefix that is itself a sequence goes into the row that it ends in.
    assert plan.distinct <= computed <= plan.distinct + len(sequences)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), halvings=st.integers(1, 4))
def test_rows_that_did_not_fit_are_walked_again_in_smaller_ones(seed: int, halvings: int) -> None:
    sequences = trees(random.Random(seed), 20)
    budget = Budget(128, min_extend=4)
    plan = Plan(sequences, [0] * len(sequences), budget)
    first = next(step for step in plan.steps() if isinstance(step, Pack))
    budget.row_tokens >>= halvings
    before = [Extend(first.ranges[0].start, a, a + 1, range(0)) for a in range(first.depth)]
    ended, _ = walk(plan, [*before, *plan.resume(first)])
    assert sorted(ended) == sorted(first.sequences)


def test_a_block_of_examples_and_each_question_are_computed_once() -> None:
    source = np.random.default_rng(0)
    block = source.integers(0, 50, 300)
    questions = [np.concatenate([block, [100 + number], source.integers(0, 50, 39)]) for number in range(30)]
    sequences = [np.append(q, letter).astype(np.int32) for q in questions for letter in range(50, 54)]
    plan = Plan(sequences, [0] * len(sequences), Budget(512))
    _, computed = walk(plan)
    assert plan.distinct == 300 + 30 * 40 + 120
    assert computed <= 1.02 * plan.distinct


def test_subtrees_of_a_lower_order_come_first() -> None:
    sequences = [np.array([first, 7, last], dtype=np.int32) for first in range(6) for last in range(3)]
    order = [5 - int(sequence[0]) for sequence in sequences]
    plan = Plan(sequences, order, Budget(5))
    ended, _ = walk(plan)
    assert [order[plan.source[i]] for i in ended] == sorted(order)


def test_nothing_gives_no_steps() -> None:
    plan = Plan([], [], Budget(8))
    assert list(plan.steps()) == []
    assert plan.distinct == 0


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=8))
def test_sort_keys_order_like_the_tokens_themselves(rows: list[list[int]]) -> None:
    arrays = [np.array(row, dtype=np.int32) for row in rows]
    assert [a.tolist() for a in sorted(arrays, key=sort_key)] == sorted(rows)


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), max_size=8))
def test_common_prefix_counts_equal_leading_tokens(a: list[int], b: list[int]) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(np.array(a, dtype=np.int32), np.array(b, dtype=np.int32)) == expected
