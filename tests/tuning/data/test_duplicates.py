import random
import subprocess
import sys
import time
from functools import cache

import pytest

from tuneboard.tuning.data.duplicates import exact_duplicates, near_duplicates
from tuneboard.tuning.data.words import words
from tuneboard.tuning.records import Example


def rows(*texts: str) -> list[Example]:
    return [Example(text, place=f"row {number}") for number, text in enumerate(texts)]


def drawn(count: int, length: int, seed: int = 0, vocabulary: int = 5000) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(vocabulary)}" for _ in range(length)) for _ in range(count)]


def changed(text: str, count: int, seed: int) -> str:
    parts, draw = text.split(), random.Random(seed)
    for place in draw.sample(range(len(parts)), count):
        parts[place] = f"new{place}"
    return " ".join(parts)


@cache
def five_grams(text: str) -> frozenset[tuple[str, ...]]:
    parts = words(text)
    return frozenset(tuple(parts[start : start + 5]) for start in range(max(1, len(parts) - 4)))


def jaccard(one: str, other: str) -> float:
    mine, theirs = five_grams(one), five_grams(other)
    return len(mine & theirs) / len(mine | theirs)


def test_exact_duplicates_differ_in_case_and_white_space_only():
    found = exact_duplicates(rows("A  cat.", "a\ncat.", "A cat", " A CAT. ", "a dog.", "Straße", "STRASSE"))
    assert found == {1: 0, 3: 0, 6: 5}


def test_exact_duplicates_look_at_the_whole_row():
    same_prompt = [Example("Two and two?", "4"), Example("Two and two?", "five"), Example("two and TWO?", "4")]
    chats = [Example("", messages=(("user", "Hi"), ("assistant", "Yo"))), Example("", messages=(("user", "Hi"),))]
    assert exact_duplicates(same_prompt) == {2: 0}
    assert exact_duplicates(chats) == {}


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_near_duplicates_are_those_of_the_true_jaccard_similarity(threshold: float):
    texts = drawn(150, 60)
    texts += [changed(text, number % 8, number) for number, text in enumerate(texts)]
    random.Random(1).shuffle(texts)
    found = near_duplicates(rows(*texts), threshold)
    expected: dict[int, int] = {}
    for row, text in enumerate(texts):
        for earlier in range(row):
            if earlier not in expected and jaccard(text, texts[earlier]) >= threshold:
                expected[row] = earlier
                break
    assert expected
    assert found == expected


def test_a_threshold_of_one_asks_for_the_same_grams():
    texts = drawn(50, 40)
    found = near_duplicates(rows(*texts, texts[3].upper() + "!", changed(texts[4], 1, 0)), 1.0)
    assert found == {50: 3}


def test_short_texts_are_near_duplicates_of_the_same_words_only():
    found = near_duplicates(rows("A good film", "a good, film!", "a good film indeed", "good", "Good...", "bad"), 0.9)
    assert found == {1: 0, 4: 3}


def test_texts_without_words_are_never_near_duplicates():
    assert near_duplicates(rows("", "...", "?!", "\U0001f600", "   "), 0.9) == {}
    assert near_duplicates([], 0.9) == {}


def test_rows_with_other_labels_are_no_duplicates():
    text = drawn(1, 80)[0]
    labels = [Example(text, "good", format="label"), Example(text, "bad", format="label"), Example(text, "Good")]
    assert near_duplicates(labels, 0.9) == {2: 0}


def test_rows_with_other_long_answers_are_compared_as_a_whole():
    prompt, answer = drawn(2, 100)
    near = [Example(prompt, answer), Example(prompt, changed(answer, 1, 0))]
    assert near_duplicates(near, 0.9) == {1: 0}
    assert near_duplicates([near[0], Example(prompt, drawn(1, 100, seed=9)[0])], 0.9) == {}


def test_a_chain_of_small_changes_is_compared_with_what_is_kept():
    chain = drawn(1, 200)
    for step in range(1, 12):
        parts = chain[-1].split()
        parts[step * 15] = f"step{step}"
        chain.append(" ".join(parts))
    found = near_duplicates(rows(*chain), 0.9)
    kept = [row for row in range(len(chain)) if row not in found]
    assert len(kept) > 1
    assert all(jaccard(chain[row], chain[first]) >= 0.9 for row, first in found.items())


def test_unspaced_scripts_are_compared_by_character():
    text = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u5427" * 2
    assert near_duplicates(rows(text, text + "\u3002"), 0.9) == {1: 0}


def test_the_outcome_does_not_hang_on_the_hash_seed():
    code = (
        "import random\n"
        "from tuneboard.tuning.data.duplicates import near_duplicates\n"
        "from tuneboard.tuning.records import Example\n"
        "draw = random.Random(0)\n"
        "base = [f'w{draw.randrange(99)}' for _ in range(60)]\n"
        "texts = [' '.join(w if draw.random() > .02 else 'x' for w in base) for _ in range(200)]\n"
        "print(near_duplicates([Example(text) for text in texts], .8))\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1
    assert runs.pop().count(":") > 50


def test_rows_of_one_template_do_not_take_forever():
    """Thousands of rows that resemble each other by 0.7 all land in the same buckets."""
    texts = [
        f"Write a short and friendly letter to customer number {number} about the order {number * 7} and tell them "
        f"that the parcel with all of their goods will arrive on day {number % 30} of this month without fail"
        for number in range(3000)
    ]
    start = time.process_time()
    assert near_duplicates(rows(*texts), 0.9) == {}
    assert time.process_time() - start < 20


@pytest.mark.accept
def test_a_hundred_thousand_rows_take_less_than_a_minute():
    texts = drawn(95_000, 100, vocabulary=30_000)
    texts += [changed(text, 1, number) for number, text in enumerate(texts[:5000])]
    start = time.process_time()
    found = near_duplicates(rows(*texts), 0.89)
    assert time.process_time() - start < 60
    assert len(found) >= 4990
    assert all(row >= 95_000 for row in found)
