import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tuneboard.tuning.data.words import chunks, grams, numbered, scattered, words


def test_ways_of_writing_make_no_difference():
    plain = words("the price of 2 cafes isn't 3 50")
    assert words("  The PRICE\u00a0of\n2 caf\u200bes: isn\u2019t $3.50!") == plain
    assert words("\uff34\uff48\uff45 price_of 2 cafes isn't 3,50") == plain


def test_digits_are_words_and_letters_with_marks_are_others():
    assert words("1,000 m\u00b2") == ["1", "000", "m2"]
    assert words("caf\u00e9") != words("cafe")
    assert words("cafe\u0301") == words("caf\u00e9")


def test_scripts_without_spaces_have_a_word_per_character():
    assert words("\u4eca\u5929 is \u597d\u3002") == ["\u4eca", "\u5929", "is", "\u597d"]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_goes_the_fast_way_to_the_same_words(text: str):
    assert words(text) == words(text + " \u00e9")[:-1]


def test_numbers_of_words_may_leave_some_out():
    ids, owners = numbered(["a b a", "", "b c"], {"a": 0, "b": -1, "c": 2}.__getitem__)
    assert ids.tolist() == [0, 0, 2]
    assert owners.tolist() == [0, 0, 2]


def test_equal_runs_within_a_text_and_no_others_have_equal_numbers():
    ids, owners = numbered(["x a b c", "a b c", "c a b", "b"], {"a": 0, "b": 1, "c": 2, "x": 3}.__getitem__)
    hashes, rows = grams(scattered(ids), owners, 2)
    told = list(zip(rows.tolist(), hashes.tolist(), strict=True))
    assert [row for row, _ in told] == [0, 0, 0, 1, 1, 2, 2]
    xa, ab, bc, ab_again, bc_again, ca, ab_third = (number for _, number in told)
    assert ab == ab_again == ab_third and bc == bc_again
    assert len({xa, ab, bc, ca}) == 4
    assert len(grams(scattered(ids[:1]), owners[:1], 3)[0]) == 0


def test_numbers_of_runs_do_not_collide():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 50, 200_000)
    hashes, _ = grams(scattered(ids), np.zeros_like(ids), 3)
    runs = {tuple(run) for run in np.lib.stride_tricks.sliding_window_view(ids, 3).tolist()}
    assert len(np.unique(hashes)) == len(runs)


def test_chunks_hold_all_texts_once_and_in_order():
    ranges = chunks(["abc", "", "defgh", "i", "j" * 50, "k"], 5)
    assert ranges == [(0, 3), (3, 5), (5, 6)]
    assert chunks([], 5) == []
