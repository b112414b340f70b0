"""Where two answers differ is marked by the first characters of lines, and nothing of them is lost."""

from __future__ import annotations

import time

import pytest


def lines(text: str, sign: str) -> list[str]:
    """The lines of a marked text that begin with a sign."""
    return [line[2:] for line in text.split("\n") if line[:2] == sign]


@pytest.fixture
def marked():
    from parts.differences import marked

    return marked


def test_equal_texts_have_no_marks(marked):
    assert marked("one\ntwo", "one\ntwo") == ("  one\n  two",) * 2


def test_changed_lines_are_marked_on_their_side(marked):
    before, after = marked("def f(x):\n    return x\n", "def f(x):\n    y = 2\n    return y\n")
    assert lines(before, "- ") == ["    return x"]
    assert lines(after, "+ ") == ["    y = 2", "    return y"]
    assert lines(before, "  ") == lines(after, "  ") == ["def f(x):", ""]


def test_long_lines_are_broken_where_the_answers_part(marked):
    shared = "Natalia sold half as many clips in May as she did in the month before, so"
    before, after = marked(
        f"{shared} 48 / 2 = 24. That is all there is.", f"{shared} 48 * 2 = 96. That is all there is."
    )
    assert lines(before, "  ") == lines(after, "  ") == [f"{shared} 48", "That is all there is."]
    assert (lines(before, "- "), lines(after, "+ ")) == (["/ 2 = 24."], ["* 2 = 96."])


def test_answers_with_few_words_in_common_are_not_shredded(marked):
    before, after = marked("a red fox " * 12 + "the end", "my old dog the " * 9 + "an end")
    assert len(lines(before, "- ")) == len(lines(after, "+ ")) == 1


@pytest.mark.parametrize("texts", [("", "x"), ("x", ""), ("- a\n+ b", "  c"), ("a\n\nb", "a\n\n\nb"), ("\n", "")])
def test_every_line_of_both_sides_is_there(marked, texts):
    for text, shown in zip(texts, marked(*texts), strict=True):
        assert [line for line in (part[2:] for part in shown.split("\n")) if line] == [
            line for line in text.split("\n") if line
        ]


def test_the_longest_answers_are_compared_in_seconds(marked):
    before = " ".join(f"word{i % 7}" for i in range(3_000))
    after = " ".join(f"word{i % 11}" for i in range(3_000))
    begun = time.process_time()
    marked(before, after)
    marked("x\n" * 10_000, "y\nx\n" * 5_000)
    assert time.process_time() - begun < 20, "a method that compares all with all takes minutes"
