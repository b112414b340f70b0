import pytest

from tuneboard.report.tables import display_width, format_table


def test_columns_line_up() -> None:
    assert format_table(["task", "n"], [["mmlu", 14042], ["a", None]]) == (
        "task      n\n────  ─────\nmmlu  14042\na         -"
    )


def test_alignment_can_be_chosen() -> None:
    assert format_table(["a", "b"], [["x", "y"], ["long", "longer"]], "rl").splitlines()[2:] == [
        "   x  y",
        "long  longer",
    ]


def test_wide_and_combining_characters_keep_the_columns() -> None:
    lines = format_table(["name", "n"], [["模型", 1], ["e\u0301te\u0301", 2], ["ab", 3]]).splitlines()
    assert len({display_width(line) for line in lines}) == 1


def test_a_table_without_rows_has_its_headers() -> None:
    assert format_table(["a", "bc"], []) == "a  bc\n─  ──"


def test_line_breaks_stay_in_their_row() -> None:
    assert format_table(["a"], [["x\ny"]]).splitlines()[-1] == "x y"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        format_table(["a", "b"], [["x"]])


def test_control_characters_of_names_and_values_are_shown_and_not_obeyed() -> None:
    text = format_table(["na\x1b[31mme", "n"], [["a\x1b]0;title\x07", "x\r\ny\tz"], ["\u202eabc\ud83d", None]])
    assert len(text.splitlines()) == 4
    assert text.replace("\n", "").isprintable()
    assert "a\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}" in text and "x  y z" in text
