from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tuneboard.config import Suite, SuiteTask, load_suite, load_yaml, parse
from tuneboard.errors import ConfigError, UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_suite(write(folder, text))
    return caught.value.problems


def test_a_suite_becomes_frozen_records(tmp_path: Path) -> None:
    suite = load_suite(
        write(
            tmp_path,
            """
            description: Two tasks
            tasks:
              - mmlu
              - task: gsm8k
                num_fewshot: 5
                limit: 20
                sample_seed: 7
                role: target
                headline: exact_match,strict-match
                generation: {max_gen_toks: 64}
            """,
        )
    )
    gsm8k = SuiteTask("gsm8k", 5, 20, 7, "target", "exact_match,strict-match", {"max_gen_toks": 64})
    assert suite == Suite("mine", "Two tasks", (SuiteTask("mmlu"), gsm8k))


def test_a_suite_may_bear_another_name_than_its_file(tmp_path: Path) -> None:
    assert load_suite(write(tmp_path, "{name: core, description: d, tasks: [mmlu]}")).name == "core"


def test_all_problems_of_a_file_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
name: core
descripton: hi
tasks:
  - mmlu
  - task: gsm8k
    num_fewshot: -1
    limits: 3
    role: guardd
  - num_fewshot: 1
"""
    assert problems(tmp_path, text) == (
        "'description' is missing",
        "line 2: unknown key 'descripton'; did you mean description?",
        "line 6: 'tasks[1].num_fewshot' is -1; expected greater than or equal to 0",
        "line 7: unknown key 'tasks[1].limits'; did you mean limit?",
        "line 8: 'tasks[1].role' is 'guardd'; expected 'target', 'guard' or 'none'",
        "line 9: 'tasks[2].task' is missing",
    )


def test_an_unknown_key_that_resembles_none_lists_the_known_ones(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "{description: d, tasks: [{task: a, zzz: 1}]}")
    assert "known keys: task, num_fewshot, limit, sample_seed, role, headline, generation" in problem


@pytest.mark.parametrize(
    ("tasks", "part"),
    [
        ("[]", "'tasks' is []; expected at least 1 item"),
        ("[mmlu, gsm8k, mmlu]", "tasks stand twice: mmlu"),
        ("[{task: a, limit: 0}]", "greater than or equal to 1"),
        ("[{task: a, limit: true}]", "valid integer"),
        ("[{task: a, limit: '3'}]", "valid integer"),
        ("[{task: a, sample_seed: 3}]", "needs a limit"),
        ("[{task: ''}]", "at least 1 character"),
        ("[3]", "tasks[0]"),
        ("mmlu", "valid list"),
    ],
)
def test_a_wrong_task_list_is_refused(tmp_path: Path, tasks: str, part: str) -> None:
    assert any(part in problem for problem in problems(tmp_path, f"description: d\ntasks: {tasks}"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice"),
        ("a: {b: 1, b: 2}", "line 1: 'b' is given twice"),
        ("- a\n- b\n", "expected 'key: value' lines"),
        ("", "expected 'key: value' lines"),
        ("a: [1,\n", "not valid YAML"),
        ("a: !secret x\n", "line 1: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
        ("a: &x [*x]", "line 1: 'a[0]' contains itself"),
        ("1: a", "line 1: a key is no text"),
        ("? [a]\n: b", "line 1: a key is no text"),
        ("a: 2001-99-99", "not valid YAML"),
        ("a: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_no_plain_mapping_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(write(tmp_path, text))
    assert problem in str(caught.value)


def test_an_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="Is a directory"):
        load_yaml(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_yaml(tmp_path / "binary")


def test_nested_aliases_cost_no_exponential_time(tmp_path: Path) -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 30))
    assert len(load_yaml(write(tmp_path, f"l0: &l0 [x]\n{levels}"))) == 30


def test_shared_anchors_are_read(tmp_path: Path) -> None:
    loaded = load_yaml(write(tmp_path, "a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n"))
    assert loaded == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}


class Inner(BaseModel):
    rate: float = 0.1


class Outer(BaseModel):
    inner: Inner | None = None
    many: dict[str, Inner] = {}


def test_unknown_keys_are_refused_at_any_depth() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, {"inner": {"rat": 1}, "many": {"x": {"rates": 2}}, "innr": {}}, "--set")
    assert caught.value.source == "--set"
    assert set(caught.value.problems) == {
        "unknown key 'inner.rat'; did you mean rate?",
        "unknown key 'many.x.rates'; did you mean rate?",
        "unknown key 'innr'; did you mean inner?",
    }


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_a_usage_error(scratch: Path, text: str) -> None:
    path = scratch / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert all(isinstance(key, str) for key in load_yaml(path))
    except UsageError as error:
        assert str(path) in str(error)


def test_generation_settings_of_a_suite_are_checked_like_its_keys(tmp_path: Path) -> None:
    text = """\
description: d
tasks:
  - task: gsm8k
    generation:
      max_gen_tok: 64
      temperature: 0.5
  - task: humaneval
    generation: {max_gen_toks: 0, top_p: 2}
"""
    assert problems(tmp_path, text) == (
        "line 5: unknown key 'tasks[0].generation.max_gen_tok'; did you mean max_gen_toks, max_new_tokens?",
        "line 8: tasks[1].generation.max_gen_toks: 0 given, expected a whole number of at least 1",
        "line 8: tasks[1].generation.top_p: 2 given, expected a number of at least 0 and at most 1",
    )
