"""Tasks of the user's own: what a YAML and a file of rows become, and how mistakes in them are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneboard import bundled
from tuneboard.config import SuiteTask
from tuneboard.errors import ConfigError, DataError, UsageError
from tuneboard.suites import TaskRequest, build_requests, load_tasks, named_tasks
from tuneboard.suites.own.schema import read_own_task

pytest.importorskip("lm_eval")

ROWS = [
    {"question": "2 + 2?", "choices": ["3", "four", "5"], "answer": "four", "topic": "sums"},
    {"question": "Sky?", "choices": ["blue", "green"], "answer": "blue", "topic": "colours"},
]
CHOICE = (
    "task: mine\nkind: multiple_choice\ndata: rows.jsonl\n"
    'prompt: "Q: {{question}}\\nA:"\nchoices: choices\nanswer: answer\n'
)


class Desk:
    """A folder with a YAML and rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.yaml = folder / "mine.yaml"

    def rows(self, *rows: dict[str, Any], name: str = "rows.jsonl") -> None:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def write(self, text: str) -> Path:
        self.yaml.write_text(text, encoding="utf-8")
        return self.yaml

    def load(self, text: str, **request: Any) -> tuple[Any, Any]:
        """The task and what is known of it."""
        self.write(text)
        (entry,) = named_tasks([self.yaml])
        loaded = load_tasks(TaskRequest((entry,), task_files=(self.yaml,), **request))
        return loaded.tasks[entry.task], loaded.refs[entry.task]

    def problems(self, text: str) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            read_own_task(self.write(text))
        return caught.value.problems


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.rows(*ROWS)
    return made


def test_multiple_choice_asks_every_choice_and_knows_the_right_one(desk: Desk) -> None:
    task, ref = desk.load(CHOICE)
    requests = build_requests(task, [0, 1])
    assert [one.args for one in requests] == [
        *[("Q: 2 + 2?\nA:", f" {choice}") for choice in ("3", "four", "5")],
        *[("Q: Sky?\nA:", f" {choice}") for choice in ("blue", "green")],
    ]
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [1, 0]
    assert (ref.n_docs, ref.output_type) == (2, "multiple_choice")
    assert task.process_results(task.eval_docs[0], [(-2.0, False), (-1.0, True), (-3.0, False)]) == {
        "acc": 1.0,
        "acc_norm": 1.0,
    }


@pytest.mark.parametrize("answers", [["four", "blue"], [1, 0], ["1", "0"], ["B", "a"]])
def test_the_answer_is_a_text_a_number_from_0_or_a_letter(desk: Desk, answers: list[Any]) -> None:
    desk.rows(*({**row, "answer": answer} for row, answer in zip(ROWS, answers, strict=True)))
    task, _ = desk.load(CHOICE)
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [1, 0]


def test_an_answer_that_can_be_read_in_two_ways_is_refused(desk: Desk) -> None:
    desk.rows({"question": "?", "choices": ["1", "2", "3"], "answer": "2"})
    with pytest.raises(DataError, match="by text and by number; write letters"):
        desk.load(CHOICE)


def test_rows_that_cannot_be_asked_are_named_with_their_lines(desk: Desk) -> None:
    desk.rows(
        {**ROWS[0], "answer": 3},
        ROWS[1],
        {"question": "", "choices": "none", "answer": 0},
        *({**ROWS[0], "choices": ["one"]} for _ in range(6)),
    )
    with pytest.raises(DataError) as caught:
        desk.load(CHOICE)
    text = str(caught.value)
    assert text.startswith("rows.jsonl: line 3: choices is 'none', expected a list of choices")
    assert "line 4: it has 1 choices, expected at least 2" in text and "; and 2 more" in text
    desk.rows({**ROWS[0], "choices": ["x", "y", "z"], "answer": 3}, ROWS[1])
    with pytest.raises(DataError, match=r"line 1: answer is 3, neither one of .* numbers count from 0"):
        desk.load(CHOICE)


def test_choices_may_be_columns_of_a_csv(desk: Desk) -> None:
    (desk.folder / "rows.csv").write_text('q;a;b;c;right\n"Sky; day?";blue;green;;A\n2+2?;3;4;5;B\n', encoding="utf-8")
    task, _ = desk.load(
        "task: mine\nkind: multiple_choice\ndata: rows.csv\nprompt: q\nchoices: [a, b, c]\nanswer: right\n"
    )
    assert [task.doc_to_choice(doc) for doc in task.eval_docs] == [["blue", "green"], ["3", "4", "5"]]
    assert [task.doc_to_text(doc) for doc in task.eval_docs] == ["Sky; day?", "2+2?"]
    assert [task.doc_to_target(doc) for doc in task.eval_docs] == [0, 1]


CLASSES = "task: mine\nkind: classification\ndata: rows.jsonl\nprompt: '{{text}} This is'\nlabel: label\n"


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["bad", "good"], "labels: [bad, good]\n"),
        ([0, 1], "labels: [bad, good]\n"),
        ([1, 5], 'labels: {"1": bad, "5": good}\n'),
        (["bad", "good"], ""),
    ],
)
def test_classification_asks_every_label_and_scores_them_together(desk: Desk, values: list[Any], labels: str) -> None:
    desk.rows(*({"text": f"Text {i}.", "label": values[i % 2]} for i in range(6)))
    task, _ = desk.load(CLASSES + labels)
    assert [one.args for one in build_requests(task, [1])] == [
        ("Text 1. This is", " bad"),
        ("Text 1. This is", " good"),
    ]
    scores = [task.process_results(doc, [(-1.0, False), (-2.0, False)]) for doc in task.eval_docs]
    assert [score["acc"] for score in scores] == [1, 0, 1, 0, 1, 0]
    aggregate = task.aggregation()
    # All are said to be bad: F1 of bad is 2/3, of good 0.
    assert aggregate["f1_macro"]([score["f1_macro"] for score in scores]) == pytest.approx(1 / 3)
    assert aggregate["mcc"]([score["mcc"] for score in scores]) == 0.0


def test_labels_that_are_not_among_those_named_are_told_with_near_matches(desk: Desk) -> None:
    desk.rows({"text": "a", "label": "good"}, {"text": "b", "label": "goood"}, {"text": "c", "label": None})
    with pytest.raises(DataError, match="line 2: label is 'goood', not one of bad, good; did you mean good"):
        desk.load(CLASSES + "labels: [bad, good]\n")
    desk.rows({"text": "a", "label": 0}, {"text": "b", "label": 5})
    with pytest.raises(DataError, match="label is '0', not one of 1, 5"):
        desk.load(CLASSES + 'labels: {"1": bad, "5": good}\n')


GENERATED = (
    'task: mine\nkind: generation\ndata: rows.jsonl\nprompt: "{{q}}"\nreference: a\nmetrics: [bleu, exact_match]\n'
    'stop: ["\\n"]\nmax_new_tokens: 7\n'
)


def test_generation_asks_with_its_settings_and_scores_against_all_references(desk: Desk) -> None:
    pytest.importorskip("sacrebleu")
    desk.rows({"q": "Say 1", "a": "one two three four"}, {"q": "Say 2", "a": ["two", "2"]})
    task, ref = desk.load(GENERATED)
    context, settings = build_requests(task, [0])[0].args
    assert context == "Say 1"
    assert (settings["until"], settings["max_gen_toks"], settings["do_sample"]) == (["\n"], 7, False)
    scores = [
        task.process_results(doc, [said]) for doc, said in zip(task.eval_docs, ["one two three four", "2"], strict=True)
    ]
    assert [score["exact_match"] for score in scores] == [1.0, 1.0]
    assert task.aggregation()["bleu"]([score["bleu"] for score in scores]) == pytest.approx(100.0)
    (signature,) = (one["signature"] for one in ref.config["metric_list"] if one["metric"] == "bleu")
    assert signature.startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert task.higher_is_better()["length_ratio"] is None


def test_several_answers_are_drawn_for_pass_at_k(desk: Desk) -> None:
    desk.rows({"q": "1 + 1 =", "a": "2"})
    text = GENERATED.replace("[bleu, exact_match]", "[pass@2, exact_match]") + "repeats: 4\ntemperature: 0.7\n"
    task, _ = desk.load(text)
    (request,) = build_requests(task, [0])
    assert request.repeats == 4 and request.args[1]["do_sample"] and request.args[1]["temperature"] == 0.7
    request.resps = ["2", "3", "2", "4"]
    task.apply_filters()
    scores = task.process_results(task.eval_docs[0], [request.filtered_resps["none"]])
    assert (scores["pass@2"], scores["exact_match"]) == (pytest.approx(1 - 1 / 6), 0.5)


def test_perplexity_takes_a_column_or_the_paragraphs_of_a_text(desk: Desk) -> None:
    desk.rows({"body": "One text."}, {"body": "Another text."})
    task, ref = desk.load("task: mine\nkind: perplexity\ndata: rows.jsonl\ntext: body\n")
    assert [one.args for one in build_requests(task, [0, 1])] == [("One text.",), ("Another text.",)]
    assert ref.output_type == "loglikelihood_rolling"
    (desk.folder / "rows.txt").write_text("First\nparagraph.\n\n  \nSecond one.\n\n\n", encoding="utf-8")
    task, _ = desk.load("task: mine\nkind: perplexity\ndata: rows.txt\n")
    assert [one.args for one in build_requests(task, [0, 1])] == [("First\nparagraph.",), ("Second one.",)]
    assert task.process_results(task.eval_docs[1], [-12.0])["word_perplexity"] == (-12.0, 2)


def test_parquet_rows_and_few_shot_examples_of_their_own(desk: Desk) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), desk.folder / "rows.parquet")
    desk.rows({"question": "1 + 1?", "choices": ["two", "3"], "answer": "two"}, name="more.jsonl")
    text = CHOICE.replace("rows.jsonl", "rows.parquet")
    task, _ = desk.load(text + "examples: more.jsonl\nnum_fewshot: 1\ndescription: Answer.\n")
    first = build_requests(task, [0])[0].args[0]
    assert first == "Answer.\n\nQ: 1 + 1?\nA: two\n\nQ: 2 + 2?\nA:"


def test_the_fingerprint_covers_rows_prompt_and_settings_but_not_places(desk: Desk, tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    desk.rows({"q": "Say 1", "a": "one"}, {"q": "Say 2", "a": "two"})
    first = desk.load(GENERATED)[1].fingerprint
    assert desk.load(GENERATED)[1].fingerprint == first
    elsewhere = Desk(tmp_path / "moved")
    elsewhere.folder.mkdir()
    elsewhere.rows({"q": "Say 1", "a": "one"}, {"q": "Say 2", "a": "two"}, name="other.jsonl")
    assert elsewhere.load(GENERATED.replace("rows.jsonl", "other.jsonl"))[1].fingerprint == first
    changed = [
        GENERATED.replace("{{q}}", "{{q}}!"),
        GENERATED.replace("[bleu, exact_match]", "[bleu, rouge]"),
        GENERATED.replace("max_new_tokens: 7", "max_new_tokens: 8"),
    ]
    others = [desk.load(text)[1].fingerprint for text in changed]
    desk.rows({"q": "Say 1", "a": "one"}, {"q": "Say 2", "a": "zwei"})
    others.append(desk.load(GENERATED)[1].fingerprint)
    assert len({first, *others}) == 5


def test_clusters_are_those_of_the_named_column(desk: Desk) -> None:
    task, _ = desk.load(CHOICE + "cluster: topic\n")
    assert [doc[task.config.metadata["cluster"]] for doc in task.eval_docs] == ["sums", "colours"]


def test_all_mistakes_are_told_at_once_with_lines_near_matches_and_the_columns(desk: Desk) -> None:
    found = desk.problems(
        'task: my task\nkind: generation\ndata: rows.jsonl\nprompt: "{{quest}} and {{topic}}"\nreference: anser\n'
        "metrics: [blue, exact_match]\nmax_tokens: 3\ntemperature: -1\n"
    )
    text = "\n".join(found)
    assert "line 1: 'task' is 'my task'" in text
    assert (
        "rows.jsonl has no column 'quest'; did you mean question?; its columns: question, choices, answer, topic"
        in text
    )
    assert "line 5: reference: rows.jsonl has no column 'anser'; did you mean answer?" in text
    assert "line 6: metrics[0]: unknown metric 'blue'; did you mean bleu?" in text
    assert "line 7: unknown key 'max_tokens'; did you mean max_new_tokens" in text
    assert "line 8: 'temperature' is -1" in text
    assert len(found) == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CHOICE.replace("multiple_choice", "multiple-choice"),
            "unknown kind 'multiple-choice'; did you mean multiple_choice",
        ),
        (CHOICE.replace("kind: multiple_choice\n", ""), "'kind' is missing; expected one of: multiple_choice, classif"),
        (CHOICE.replace("rows.jsonl", "row.jsonl"), "there is no file .*row.jsonl; did you mean rows.jsonl"),
        (CHOICE.replace("rows.jsonl", "mine.yaml"), "is no file of rows that is known; expected one of .*, .txt"),
        (CHOICE.replace("{{question}}", "{{question"), "prompt: not a template"),
        (CHOICE.replace("{{question}}", "question"), "it holds no column, so that all prompts would be alike"),
        (CHOICE.replace("A:", "A: "), "it ends with a blank"),
        (CHOICE.replace("task: mine\n", ""), "'task' is missing"),
        (CHOICE + "cluster: topics\n", "line 7: cluster: rows.jsonl has no column 'topics'; did you mean topic"),
        (GENERATED.replace("bleu", "pass@3"), "pass@3 needs as many answers; write repeats: 3"),
        (GENERATED + "repeats: 3\n", "write a temperature above 0"),
        (CLASSES + "labels: [good, good]\n", "a label stands twice"),
        (CLASSES + "labels: [yes, no]\n", "YAML reads yes, no, on and off as true and false; write labels in quotes"),
        (CLASSES + "labels: {yes: good, no: bad}\n", "a key is no text: yes; write it in quotes"),
        ("task: mine\nkind: perplexity\ndata: rows.jsonl\n", "rows.jsonl has no column 'text'"),
    ],
)
def test_each_mistake_says_what_to_do(desk: Desk, text: str, expected: str) -> None:
    import re

    assert re.search(expected, "\n".join(desk.problems(text)))


def test_a_file_in_lm_evals_own_format_is_taken_too(desk: Desk) -> None:
    (desk.folder / "data.jsonl").write_text(
        json.dumps({"q": "a", "choices": ["x", "y"], "gold": 0}) + "\n", encoding="utf-8"
    )
    desk.write(
        "task: theirs\ndataset_path: json\ndataset_kwargs: {data_files: {test: data.jsonl}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: choices\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\nmetadata: {version: 1.0}\n"
    )
    (entry,) = named_tasks([desk.yaml])
    assert entry == SuiteTask("theirs")
    assert load_tasks(TaskRequest((entry,), task_files=(desk.yaml,))).refs["theirs"].n_docs == 1


def test_files_are_named_by_their_task_and_stand_for_their_first_metric(desk: Desk) -> None:
    assert named_tasks([desk.write(CHOICE)]) == [SuiteTask("mine")]
    assert named_tasks([desk.write(GENERATED.replace("bleu", "rouge"))]) == [SuiteTask("mine", headline="rouge1")]
    other = desk.folder / "other.yaml"
    other.write_text(CHOICE, encoding="utf-8")
    with pytest.raises(UsageError, match="both hold a task 'mine'"):
        named_tasks([desk.yaml, other])
    with pytest.raises(UsageError, match="no task file at"):
        named_tasks([desk.folder / "nowhere.yaml"])


def test_an_include_path_finds_the_same_task_by_its_name(desk: Desk) -> None:
    _, direct = desk.load(CHOICE)
    loaded = load_tasks(TaskRequest((SuiteTask("mine"),), include_paths=(desk.folder,)))
    assert loaded.refs["mine"] == direct


def test_an_own_task_that_takes_anothers_name_is_told(desk: Desk) -> None:
    file = desk.write(CHOICE.replace("task: mine", "task: example_choice"))
    loaded = load_tasks(TaskRequest((SuiteTask("example_choice"),), task_files=(file,)))
    assert any("takes the place of another task of that name" in note for note in loaded.notes)
    shipped = bundled.tasks_dir() / "examples/choice.yaml"
    alone = load_tasks(TaskRequest((SuiteTask("example_choice"),), task_files=(shipped,)))
    assert not any("takes the place" in note for note in alone.notes)


@pytest.mark.parametrize("name", ["choice", "classification", "generation", "perplexity"])
def test_every_shipped_example_loads(name: str) -> None:
    path = bundled.tasks_dir() / "examples" / f"{name}.yaml"
    (entry,) = named_tasks([path])
    loaded = load_tasks(TaskRequest((entry,), task_files=(path,)))
    assert loaded.refs[entry.task].n_docs >= 6
    assert build_requests(loaded.tasks[entry.task], loaded.doc_ids[entry.task])
