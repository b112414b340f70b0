import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneboard.datafiles import Table
from tuneboard.errors import DataError, UnknownName, UsageError
from tuneboard.tuning.data.formats import as_trained, bind, check_kind, to_examples
from tuneboard.tuning.data.sources import read_source, source_names
from tuneboard.tuning.records import Example, SourceSpec


def table(*rows: dict[str, Any]) -> Table:
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Table("data.jsonl", columns, tuple(enumerate(rows, 1)), "line")


def examples(*rows: dict[str, Any], key: str | None = None, **spec: Any) -> list[Example]:
    read = table(*rows)
    return to_examples(read, bind(read, SourceSpec("data.jsonl", **spec)), key_column=key)


def example(row: dict[str, Any], **spec: Any) -> Example:
    return examples(row, **spec)[0]


CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ("text", "text"),
        ("id text url", "text"),
        ("prompt completion", "completion"),
        ("question answer", "completion"),
        ("prompt response", "completion"),
        ("instruction input output", "instruction"),
        ("instruction output", "instruction"),
        ("instruction input response text", "instruction"),
        ("messages prompt", "chat"),
        ("conversations id", "chat"),
        ("text label", "label"),
        ("sentence label idx", "label"),
        ("sentence1 sentence2 label", "label"),
        ("premise hypothesis label", "label"),
        ("Text Label", "label"),
    ],
)
def test_the_format_is_told_by_the_columns(columns: str, found: str) -> None:
    assert bind(table(dict.fromkeys(columns.split(), "x")), SourceSpec("data.jsonl")).format == found


def test_unknown_columns_are_named_with_every_accepted_form() -> None:
    with pytest.raises(DataError) as caught:
        example({"article": "x", "highlights": "y"})
    message = str(caught.value)
    for part in ("article, highlights", "prompt + completion", "question + answer", "instruction + output", "messages"):
        assert part in message
    for part in (
        "conversations",
        "text + label",
        "sentence1 + sentence2",
        "premise + hypothesis",
        "columns:",
        "template",
    ):
        assert part in message


def test_a_format_that_is_asked_for_must_fit() -> None:
    with pytest.raises(DataError, match=r"has the columns text; the format completion needs prompt or question and"):
        example({"text": "x"}, format="completion")
    assert example({"text": "x", "label": "y"}, format="text") == Example("x", place="data.jsonl line 1")


def test_prompt_and_completion_are_taken_as_they_are() -> None:
    assert example({"prompt": " a\n", "completion": "b "}) == Example(
        " a\n", "b ", format="completion", place="data.jsonl line 1"
    )


def test_question_and_answer_are_asked_as_lm_eval_asks() -> None:
    row = example({"question": "How many?\n", "answer": "Two.\n#### 2"})
    assert (row.text, row.answer, row.format) == ("Question: How many?\nAnswer:", "Two.\n#### 2", "completion")


def test_instructions_are_laid_out_in_three_parts() -> None:
    row = example({"instruction": "Sort.", "input": "b a", "output": "a b"})
    assert (row.format, row.answer) == ("instruction", "a b")
    assert row.text.endswith("\n\n### Instruction:\nSort.\n\n### Input:\nb a\n\n### Response:")
    for without in ({"input": ""}, {"input": None}, {}):
        row = examples(
            {"instruction": "Go.", "input": "x", "output": "y"}, {"instruction": "Go.", "output": "y", **without}
        )[1]
        assert row.text.endswith("### Instruction:\nGo.\n\n### Response:")
        assert "Input" not in row.text


def test_an_empty_instruction_stays_empty_for_the_cleaning() -> None:
    assert example({"instruction": " ", "input": None, "output": "x"}).text == ""


def test_messages_come_in_two_spellings() -> None:
    share = [{"from": "system", "value": "s"}, {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    assert example({"messages": CHAT}).messages == (("user", "hi"), ("assistant", "hello"))
    assert example({"conversations": share}).messages == (("system", "s"), ("user", "hi"), ("assistant", "hello"))
    assert example({"messages": json.dumps(CHAT)}).messages == (("user", "hi"), ("assistant", "hello"))
    parts = [CHAT[0], {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert example({"messages": parts}).messages[1] == ("assistant", "ab")
    assert example({"messages": []}).messages == ()


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": "hi"}], "no message is the assistant's"),
        ([{"role": "narrator", "content": "hi"}], "the role 'narrator'; expected one of system, user, assistant"),
        ([{"role": "user", "text": "hi"}], "a message has role, text; expected role and content"),
        ([{"role": "user", "content": [{"type": "image"}]}], "no text"),
        ("hello", "not JSON"),
        ({"role": "user"}, "a list of"),
        (["hello"], "a list of"),
    ],
)
def test_broken_messages_are_named_by_row(messages: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        examples({"messages": CHAT}, {"messages": messages})
    assert str(caught.value).startswith("data.jsonl line 2")


def test_labels_of_one_and_of_two_texts() -> None:
    assert example({"sentence": "a", "label": "pos"}) == Example("a", "pos", format="label", place="data.jsonl line 1")
    for first, second in (("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "text_pair")):
        row = example({first: "a", second: "b", "label": 1})
        assert (row.text, row.text_pair, row.answer) == ("a", "b", "1")


@pytest.mark.parametrize(("label", "name"), [(1, "1"), (2.0, "2"), (" pos ", "pos"), (True, "True")])
def test_labels_are_names(label: Any, name: str) -> None:
    assert example({"text": "a", "label": label}).answer == name


@pytest.mark.parametrize(
    ("label", "message"), [(None, "no label"), ("", "no label"), (0.5, "0.5"), ([1], "holds list")]
)
def test_a_row_without_a_class_is_named(label: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.jsonl line 2.*{message}"):
        examples({"text": "a", "label": "x"}, {"text": "b", "label": label})


def test_columns_name_what_stands_elsewhere() -> None:
    row = {"page": "long text", "meta": {"de": "ja", "en": "yes"}}
    assert example(row, columns={"text": "page"}).text == "long text"
    made = example(row, columns={"prompt": "meta.de", "completion": "meta.en"})
    assert (made.text, made.answer, made.format) == ("ja", "yes", "completion")
    assert example({"question": "why", "answer": "so"}, columns={"prompt": "question"}).text == "Question: why\nAnswer:"


def test_a_column_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(
        DataError, match=r"no column 'pages' \(columns\.text\); did you mean page\? its columns: page, id"
    ):
        example({"page": "x", "id": 1}, columns={"text": "pages"})
    with pytest.raises(UnknownName, match=r"unknown field 'promt'; did you mean prompt\?"):
        example({"page": "x"}, columns={"promt": "page"})
    with pytest.raises(DataError, match=r"line 1 has no 'meta\.fr'; it has de"):
        example({"meta": {"de": "ja"}}, columns={"text": "meta.fr"})


def test_a_row_that_lacks_a_column_of_the_others_is_named() -> None:
    with pytest.raises(DataError, match=r"data\.jsonl line 2 has no 'completion'; it has prompt"):
        examples({"prompt": "a", "completion": "b"}, {"prompt": "c"})
    with pytest.raises(DataError, match=r"line 1: 'text' holds dict, expected text"):
        example({"text": {"a": 1}})


@pytest.mark.parametrize(("value", "text"), [(None, ""), (3, "3"), (float("nan"), ""), (1.5, "1.5")])
def test_values_become_text(value: Any, text: str) -> None:
    assert example({"text": value}).text == text


def test_a_template_writes_the_prompt() -> None:
    row = {"text": "fine film", "label": "pos"}
    assert example(row, template="Review: {text}\nMood:") == Example(
        "Review: fine film\nMood:", "pos", format="label", place="data.jsonl line 1"
    )
    made = example(
        {"translation": {"de": "ja", "en": "yes"}},
        template="{{de}} {translation.de}",
        columns={"completion": "translation.en"},
    )
    assert (made.text, made.answer, made.format) == ("{de} ja", "yes", "completion")
    assert example({"a": 1, "b": 2}, template="{a} {b}").text == "1 2"
    made = example({"instruction": "Go", "output": "ok"}, template="> {instruction}")
    assert (made.text, made.format) == ("> Go", "completion")
    assert example({"q": "why", "answer": "so"}, template="{prompt}?", columns={"prompt": "q"}).text == "why?"


@pytest.mark.parametrize("template", ["{text", "{}", "{text!r}", "{text:>3}", "no place"])
def test_a_broken_template_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match=r"the template of data\.jsonl"):
        example({"text": "x"}, template=template)


def test_a_template_with_an_unknown_column_lists_the_columns() -> None:
    with pytest.raises(DataError, match=r"has no 'txt'; it has text, id"):
        example({"text": "x", "id": 1}, template="{txt}")


def test_messages_take_no_template() -> None:
    with pytest.raises(UsageError, match="a template does not fit messages"):
        example({"messages": CHAT}, format="chat", template="{messages}")


def test_keys_come_from_a_column() -> None:
    from datetime import date, datetime

    made = examples({"text": "a", "day": date(2024, 1, 5)}, {"text": "b", "day": datetime(2024, 1, 6, 7)}, key="day")
    assert [row.key for row in made] == ["2024-01-05", "2024-01-06T07:00:00"]
    with pytest.raises(DataError, match=r"no column 'when' \(data\.split\.column\); its columns: text"):
        examples({"text": "a"}, key="when")
    with pytest.raises(DataError, match=r"line 2 has nothing in 'day'"):
        examples({"text": "a", "day": 1}, {"text": "b", "day": None}, key="day")


def test_kinds_refuse_what_they_cannot_learn() -> None:
    for row_format in ("text", "completion", "instruction", "chat"):
        with pytest.raises(UsageError, match=rf"format {row_format}, and kind: classification .* text \+ label"):
            check_kind("classification", row_format, "data.jsonl")
    for row_format in ("text", "chat"):
        with pytest.raises(UsageError, match=rf"format {row_format}, and kind: seq2seq"):
            check_kind("seq2seq", row_format, "data.jsonl")
    for row_format in ("text", "completion", "instruction", "chat", "label"):
        check_kind("causal", row_format, "data.jsonl")
    check_kind("classification", "label", "data.jsonl")


def test_labels_become_answers_but_for_classifiers() -> None:
    row = Example("a", "pos", format="label", text_pair="b")
    assert as_trained(row, "classification") == row
    assert as_trained(row, "seq2seq") == Example("a\nb", "pos", format="completion")
    assert as_trained(row, "causal") == Example("a\nb", " pos", format="completion")


@pytest.mark.parametrize(
    ("made", "answer"),
    [
        (Example("a", "b", format="completion"), " b"),
        (Example("a ", "b", format="completion"), "b"),
        (Example("a", "\nb", format="completion"), "\nb"),
        (Example("", "b", format="completion"), "b"),
        (Example("a", "", format="completion"), ""),
        (Example("a", "b", format="instruction"), "\nb"),
    ],
)
def test_white_space_stands_between_prompt_and_answer(made: Example, answer: str) -> None:
    assert as_trained(made, "causal").answer == answer
    assert as_trained(made, "seq2seq").answer == made.answer


@given(prompt=st.text(max_size=30), completion=st.text(max_size=30))
def test_nothing_of_a_row_is_lost_or_changed(prompt: str, completion: str) -> None:
    made = as_trained(example({"prompt": prompt, "completion": completion}), "causal")
    assert made.text == prompt
    assert made.answer.endswith(completion)
    assert len(made.answer) - len(completion) in (0, 1)


@pytest.mark.parametrize(
    ("path", "config", "found"),
    [
        ("openai/gsm8k", "main", "completion"),
        ("cornell-movie-review-data/rotten_tomatoes", None, "label"),
        ("nyu-mll/glue", "rte", "label"),
        ("teknium/GPTeacher", None, "instruction"),
        ("roneneldan/TinyStories", None, "text"),
    ],
)
def test_real_data_sets_are_told(mirror: Path, tmp_path: Path, path: str, config: str | None, found: str) -> None:
    source = SourceSpec(path, config)
    if not (mirror / path / (config or "default") / "train.parquet").is_file():
        pytest.skip(f"the mirror lacks {path}")
    read = read_source(source, source_names([source])[0], (tmp_path, mirror))
    binding = bind(read, source)
    made = to_examples(read, binding)
    assert binding.format == found
    assert len(made) == len(read.rows)
    assert all(row.format == found and row.text and (row.answer or found == "text") for row in made[:500])


def test_real_translations_are_reached_in_their_nested_column(mirror: Path, tmp_path: Path) -> None:
    if not (mirror / "wmt" / "wmt22" / "de-en" / "test.parquet").is_file():
        pytest.skip("the mirror lacks wmt/wmt22")
    source = SourceSpec(
        "wmt/wmt22",
        "de-en",
        "test",
        columns={"completion": "translation.en"},
        template="German: {translation.de}\nEnglish:",
    )
    read = read_source(source, "wmt", (tmp_path, mirror))
    made = to_examples(read, bind(read, source))
    assert len(made) == 1984
    assert made[0].text.startswith("German: ") and made[0].answer


def test_labels_that_are_numbers_get_names() -> None:
    names = {"0": "negative", "1": "positive"}
    rows = ({"text": "a", "label": 0}, {"text": "b", "label": 1.0}, {"text": "c", "label": "positive"})
    assert [row.answer for row in examples(*rows, labels=names)] == ["negative", "positive", "positive"]
    assert example(rows[0], labels=names, template="{text}?").answer == "negative"
    with pytest.raises(DataError, match=r"data\.jsonl line 2 has the label '2', and labels names 0, 1; add it there"):
        examples(rows[0], {"text": "b", "label": 2}, labels=names)
    with pytest.raises(UsageError, match="in the format completion, which has no labels to name"):
        example({"prompt": "a", "completion": "b"}, labels=names)
