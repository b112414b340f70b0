from itertools import pairwise
from pathlib import Path

import pytest

from tuneboard.errors import ConfigError, UnknownName, UsageError
from tuneboard.suites import find_suite, list_suites, sample_ids


def test_ships_core_quick_and_demo_with_a_description_each():
    suites = list_suites()
    assert {"core", "quick", "demo"} <= {suite.name for suite in suites}
    assert all(suite.description and suite.path.is_file() for suite in suites)


def test_core_asks_the_five_benchmarks_in_full_as_guards():
    tasks = {task.task: task for task in find_suite("core").tasks}
    assert set(tasks) == {
        "mmlu", "hellaswag", "gsm8k", "humaneval", "truthfulqa_mc1", "truthfulqa_mc2", "truthfulqa_gen",
    }  # fmt: skip
    assert {task.role for task in tasks.values()} == {"guard"}
    assert {task.limit for task in tasks.values()} == {None}
    assert (tasks["mmlu"].num_fewshot, tasks["gsm8k"].num_fewshot, tasks["hellaswag"].num_fewshot) == (5, 5, 0)


def test_quick_asks_a_seeded_part_of_the_same_tasks():
    core, quick = find_suite("core"), find_suite("quick")
    assert [task.task for task in quick.tasks] == [task.task for task in core.tasks]
    assert [task.num_fewshot for task in quick.tasks] == [task.num_fewshot for task in core.tasks]
    assert all(task.limit and task.sample_seed is not None for task in quick.tasks)


def test_suite_is_read_from_the_users_own_file(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("description: mine\ntasks: [hellaswag]\n")
    suite = find_suite(str(file))
    assert suite.name == "mine"
    assert [task.task for task in suite.tasks] == ["hellaswag"]


def test_unknown_suite_lists_near_matches():
    with pytest.raises(UnknownName, match="unknown suite 'cor'; did you mean core"):
        find_suite("cor")


def test_missing_suite_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no suite file at .*gone\.yaml"):
        find_suite(str(tmp_path / "gone.yaml"))


def test_suite_with_unknown_keys_is_refused(tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_text("description: x\ntasks:\n  - {task: a, limits: 3}\n")
    with pytest.raises(ConfigError, match="limits"):
        find_suite(str(file))


def test_limit_without_seed_takes_the_first_documents_as_lm_eval_does():
    assert sample_ids("t", 10, 3, None) == [0, 1, 2]


def test_no_limit_or_a_large_one_takes_all():
    assert sample_ids("t", 4, None, 7) == sample_ids("t", 4, 9, 7) == [0, 1, 2, 3]


def test_seeded_draw_is_sorted_fixed_and_differs_between_tasks_and_seeds():
    draw = sample_ids("mmlu_anatomy", 135, 5, 20240)
    assert draw == [1, 7, 16, 33, 109]
    assert draw != sample_ids("mmlu_virology", 135, 5, 20240)
    assert draw != sample_ids("mmlu_anatomy", 135, 5, 1)


@pytest.mark.parametrize("seed", [0, 1, 20240])
def test_smaller_draw_is_part_of_a_larger_one(seed: int):
    draws = [set(sample_ids("t", 200, limit, seed)) for limit in (1, 10, 50, 200)]
    assert all(small < large for small, large in pairwise(draws))
    assert [len(draw) for draw in draws] == [1, 10, 50, 200]
