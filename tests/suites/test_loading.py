from pathlib import Path

import pytest

from tuneboard.config import SuiteTask
from tuneboard.errors import ConfigError, DataError, TuneboardError, UnknownName, UsageError
from tuneboard.suites import LoadedTasks, TaskRequest, load_tasks


def load(folder, *tasks: SuiteTask | str, **settings) -> LoadedTasks:
    asked = tuple(SuiteTask(task) if isinstance(task, str) else task for task in tasks)
    return load_tasks(TaskRequest(asked, include_paths=(folder.root,), **settings))


@pytest.fixture
def grouped(folder):
    folder.task("one", tag="mine")
    folder.task("two", tag="mine")
    folder.generating("three")
    folder.write("pair.yaml", "group: pair\ntask: [one, two]\naggregate_metric_list: [{metric: acc}]\n")
    folder.write("all.yaml", "group: everything\ntask: [pair, three]\n")
    return folder


def test_settings_of_a_group_hold_for_every_leaf_and_its_groups(grouped):
    loaded = load(grouped, SuiteTask("everything", num_fewshot=2, limit=3, role="target"))
    assert set(loaded.tasks) == {"one", "two", "three"}
    assert set(loaded.groups) == {"everything", "pair"}
    assert loaded.limits == dict.fromkeys(("one", "two", "three"), 3)
    assert {ref.num_fewshot for ref in loaded.refs.values()} == {2}
    assert loaded.roles == dict.fromkeys(("everything", "pair", "one", "two", "three"), "target")
    assert set(loaded.doc_ids.values()) == {(0, 1, 2)}


def test_settings_of_a_tag_hold_for_every_leaf(grouped):
    loaded = load(grouped, SuiteTask("mine", limit=4, sample_seed=1, role="guard"))
    assert set(loaded.tasks) == {"one", "two"}
    assert not loaded.groups
    assert loaded.doc_ids["one"] != loaded.doc_ids["two"]
    assert all(len(ids) == 4 and list(ids) == sorted(ids) for ids in loaded.doc_ids.values())
    assert loaded.roles["one"] == loaded.roles["two"] == "guard"


def test_pattern_names_several_tasks(grouped):
    assert set(load(grouped, "t[wh]*o").tasks) == {"two"}


@pytest.mark.parametrize(
    ("own", "suite", "asked", "expected"),
    [(None, None, None, 0), (3, None, None, 3), (3, 2, None, 2), (3, 2, 1, 1), (3, None, 0, 0), (0, 2, 4, 0)],
)
def test_few_shot_number_follows_lm_evals_rule(folder, own, suite, asked, expected):
    folder.task("one", num_fewshot=own)
    loaded = load(folder, SuiteTask("one", num_fewshot=suite), num_fewshot=asked)
    assert loaded.refs["one"].num_fewshot == loaded.tasks["one"].config.num_fewshot == expected


def test_generation_settings_are_laid_over_the_tasks_own(grouped):
    asked = SuiteTask("everything", generation={"max_gen_toks": 16, "temperature": 0.5})
    loaded = load(grouped, asked, gen_kwargs={"temperature": 0.7})
    assert loaded.generation == {"one": {}, "two": {}, "three": {"max_gen_toks": 16, "temperature": 0.7}}
    assert loaded.tasks["three"].config.generation_kwargs == {"until": ["\n"], "max_gen_toks": 16, "temperature": 0.7}


def test_tasks_named_twice_in_the_same_way_are_loaded_once(grouped):
    loaded = load(grouped, SuiteTask("pair", role="target"), SuiteTask("everything", role="guard"))
    assert list(loaded.tasks) == ["one", "two", "three"]
    assert loaded.roles["one"] == "target"
    assert loaded.roles["three"] == "guard"


def test_tasks_named_twice_in_different_ways_are_refused(grouped):
    with pytest.raises(UsageError, match="task 'one' is asked for by 'pair' and by 'one' with different settings"):
        load(grouped, SuiteTask("pair", limit=2), SuiteTask("one", limit=3))


def test_files_are_found_beside_the_yaml_from_any_folder(folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder.task("one")
    folder.task("globbed", dataset_kwargs={"data_files": {"train": "tra*.jsonl", "test": ["test.jsonl"]}})
    monkeypatch.chdir(tmp_path)
    assert load(folder, "one").refs["one"].n_docs == 6
    assert load(folder, "globbed").refs["globbed"].n_docs == 6


def test_files_relative_to_the_working_folder_still_work(folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder.data("elsewhere", [{"question": "q", "choices": ["a", "b"], "answer": 1, "word": "w"}])
    (folder.root / "elsewhere.jsonl").rename(tmp_path / "here.jsonl")
    folder.task("one", dataset_kwargs={"data_files": {"test": "here.jsonl"}}, training_split=None, fewshot_split=None)
    monkeypatch.chdir(tmp_path)
    assert load(folder, "one").refs["one"].n_docs == 1


def test_tasks_defined_inside_a_group_are_loaded(folder):
    folder.task("one")
    folder.write(
        "inline.yaml",
        "group: outer\n"
        "task:\n"
        "  - task: inner\n"
        "    dataset_path: json\n"
        f"    dataset_kwargs: {{data_files: {{test: {folder.root}/test.jsonl}}}}\n"
        "    output_type: multiple_choice\n"
        "    test_split: test\n"
        "    doc_to_text: question\n"
        "    doc_to_choice: choices\n"
        "    doc_to_target: answer\n",
    )
    loaded = load(folder, "outer")
    assert list(loaded.tasks) == ["outer::inner"]
    assert loaded.refs["outer::inner"].n_docs == 6


def test_documents_are_processed_once(folder):
    folder.write("utils.py", "calls = []\n\ndef process(docs):\n    calls.append(len(docs))\n    return docs\n")
    folder.task("one", process_docs=None)
    text = (folder.root / "one.yaml").read_text()
    folder.write("one.yaml", text + "process_docs: !function utils.process\n")
    task = load(folder, "one").tasks["one"]
    assert task.eval_docs is task.eval_docs
    assert task.config.process_docs.__globals__["calls"] == [6]


def test_unknown_task_lists_near_matches(grouped):
    with pytest.raises(UnknownName, match="unknown task 'hellaswg'; did you mean hellaswag"):
        load(grouped, "hellaswg")
    with pytest.raises(UnknownName, match="unknown task 'nothing_like_\\*'"):
        load(grouped, "nothing_like_*")


def test_unknown_keys_are_all_named_with_the_file(folder):
    folder.task("one", doc_to_txt="x", fewshot_config={"smapler": "first_n"}, nonsense_key=1)
    with pytest.raises(ConfigError) as caught:
        load(folder, "one")
    assert caught.value.source.endswith("one.yaml")
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "unknown key 'doc_to_txt'",
        "unknown key 'nonsense_key'",
        "unknown key 'fewshot_config.smapler'",
    ]
    assert "did you mean doc_to_text" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("metrics", "refused"),
    [(["accu"], True), (["accu", "acc"], False), (["acc_norm"], False)],
    ids=["none is known", "one is known", "known"],
)
def test_metrics_that_nothing_measures_are_named_with_the_file(folder, metrics: list[str], refused: bool):
    given = {} if refused else {"aggregation": "mean", "higher_is_better": True}
    folder.task("one", metric_list=[{"metric": metric} | given for metric in metrics])
    if not refused:
        assert load(folder, "one").tasks
        return
    with pytest.raises(ConfigError, match=r"one\.yaml: unknown metric 'accu', did you mean acc\?"):
        load(folder, "one")


def test_a_file_without_rows_is_named(folder, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    folder.task("one", dataset_path="json", dataset_kwargs={"data_files": {"test": str(empty)}})
    with pytest.raises(DataError, match=rf"cannot be loaded \(no rows\); check that \S*{empty.name}.* not empty"):
        load(folder, "one")


@pytest.mark.parametrize(
    ("code", "function", "message"),
    [
        ("x = 1\n", "utils.process", "has no function 'process'"),
        ("def process(:\n", "utils.process", "SyntaxError"),
        ("raise ValueError('boom')\n", "utils.process", "ValueError: boom"),
        ("", "no_such_module.process", "Cannot import module 'no_such_module'"),
        ("", "process", "Invalid function reference"),
    ],
)
def test_broken_function_is_named_with_the_file(folder, code: str, function: str, message: str):
    folder.write("utils.py", code)
    folder.task("one")
    text = (folder.root / "one.yaml").read_text()
    folder.write("one.yaml", text + f"process_docs: !function {function}\n")
    with pytest.raises(ConfigError, match=message) as caught:
        load(folder, "one")
    assert "one.yaml: broken !function" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "import transformers.no_longer_there",
            r"needs transformers\.no_longer_there, which transformers .* no longer has",
        ),
        ("import some_rare_package", r"needs the package that brings some_rare_package; try: pip install"),
    ],
)
def test_code_that_needs_what_is_not_installed_says_what(folder, line: str, message: str):
    folder.write("needs.py", f"{line}\n\ndef process(docs):\n    return docs\n")
    folder.task("one")
    text = (folder.root / "one.yaml").read_text()
    folder.write("one.yaml", text + "process_docs: !function needs.process\n")
    with pytest.raises(DataError, match=message):
        load(folder, "one")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"test_split": "tset"}, DataError, "reads split 'tset', but its data set has only: train, test"),
        ({"output_type": "magic"}, DataError, "Got invalid output_type 'magic'"),
        ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, DataError, "its data set cannot be loaded"),
        ({"doc_to_text": "{{no_such_column}}"}, DataError, "no_such_column"),
        ({"num_fewshot": 9}, DataError, "is to show 9 examples but has only 6"),
    ],
)
def test_task_that_cannot_be_built_says_why_in_one_line(folder, changes, error: type[TuneboardError], message: str):
    folder.task("one", **changes)
    with pytest.raises(error, match=message) as caught:
        load(folder, "one")
    assert "one" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_group_with_an_unknown_member_names_it(grouped):
    grouped.write("bad.yaml", "group: bad\ntask: [one, tow]\n")
    with pytest.raises(ConfigError, match="group 'bad': unknown member 'tow', did you mean two"):
        load(grouped, "bad")


def test_global_random_state_is_left_as_it_was(folder):
    import random

    folder.task("one")
    random.seed(5)
    before = random.getstate()
    load(folder, "one")
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("headline", "message"),
    [
        ("acc_nrom", r"unknown headline metric 'acc_nrom'; did you mean acc_norm.* metrics of one, two: acc, acc_norm"),
        ("acc,strict", r"unknown headline filter 'strict'; the filters of one, two: none"),
    ],
)
def test_headline_that_no_task_has_is_refused_with_near_matches(grouped, headline: str, message: str):
    grouped.task("two", metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}])
    with pytest.raises(UnknownName, match=message):
        load(grouped, SuiteTask("pair", headline=headline))


def test_headline_is_fine_where_one_of_the_tasks_has_it(grouped):
    grouped.task("two", metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}])
    loaded = load(grouped, SuiteTask("pair", headline="acc_norm,none"), SuiteTask("three", headline="exact_match"))
    assert loaded.headlines["two"] == "acc_norm,none"


def test_headline_may_be_what_a_scorer_of_its_own_gives(folder):
    folder.write("scorer.py", "def score(doc, results):\n    return {'clarity': 1.0}\n")
    folder.task("one")
    folder.write("one.yaml", (folder.root / "one.yaml").read_text() + "process_results: !function scorer.score\n")
    assert load(folder, SuiteTask("one", headline="clarity")).headlines["one"] == "clarity"


def test_examples_that_are_not_as_asked_are_noted_once_with_the_tasks(folder):
    folder.task("fixed", num_fewshot=0)
    folder.task("free")
    folder.task("bare", training_split=None, fewshot_split=None)
    folder.task("own", fewshot_split="test")
    names = ("fixed", "free", "bare", "own")
    assert load(folder, *names, num_fewshot=2).notes == [
        "asked without few-shot examples, since their own YAML fixes num_fewshot at 0: fixed",
        "few-shot examples come from the split that is evaluated, not from another: bare, own",
    ]
    assert load(folder, *names).notes == load(folder, *names, num_fewshot=0).notes == []


def test_empty_split_is_named_with_its_file(folder, tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.task("emptied", process_docs=None)
    folder.write("drop.py", "def none(docs):\n    return docs.select([])\n")
    folder.write("emptied.yaml", (folder.root / "emptied.yaml").read_text() + "process_docs: !function drop.none\n")
    with pytest.raises(DataError, match=r"'emptied' has no documents: \S+test\.jsonl has no rows, or"):
        load(folder, "emptied")

    folder.task("mirrored", dataset_path="toy/empty", dataset_kwargs=None, training_split=None, fewshot_split=None)
    file = tmp_path / "mirror/toy/empty/default/test.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), file)
    with pytest.raises(DataError, match=rf"'mirrored' has no documents: {file} has no rows"):
        load(folder, "mirrored", mirror=tmp_path / "mirror")

    folder.data("test", [])
    folder.task("one")
    with pytest.raises(DataError, match=r"'one'.*test\.jsonl") as caught:
        load(folder, "one")
    assert "--mirror" not in str(caught.value) and "\n" not in str(caught.value)


def test_column_that_the_data_lacks_is_named_with_the_file_and_the_columns_there(folder):
    folder.task("one", doc_to_text="Q: {{questoin}}\nA:")
    with pytest.raises(DataError) as caught:
        load(folder, "one")
    assert str(caught.value) == (
        f"task 'one' needs the column 'questoin', which {folder.root}/test.jsonl lacks (it has: question, choices, "
        "answer, word); add it there, or correct the templates in the task's YAML"
    )
