import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest

from tuneboard import bundled
from tuneboard.suites import TaskRequest, build_requests, find_suite, load_tasks

FOLDER = bundled.tasks_dir() / "demo"
NAMES = ("subtraction", "knowledge", "continuation", "math", "code", "truth")


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_demo_suite_loads_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    suite = find_suite("demo")
    loaded = load_tasks(TaskRequest(suite.tasks))
    assert list(loaded.tasks) == [f"demo_{name}" for name in NAMES]
    for name, task in loaded.tasks.items():
        assert build_requests(task, loaded.doc_ids[name])
    assert loaded.refs["demo_code"].output_type == "generate_until"
    assert loaded.roles == {f"demo_{name}": "target" if name == "subtraction" else "guard" for name in NAMES}
    assert loaded.notes == []


def test_every_guard_has_the_samples_that_its_margin_needs():
    loaded = load_tasks(TaskRequest(find_suite("demo").tasks))
    assert all(ref.n_docs >= 150 for ref in loaded.refs.values())


def test_the_suite_of_real_bases_loads_from_a_mirror(mirror: Path):
    loaded = load_tasks(TaskRequest(find_suite("demo-model").tasks, mirror=mirror))
    assert {name: len(ids) for name, ids in loaded.doc_ids.items()} == {
        "sst2": 200,
        "hellaswag": 150,
        "arc_easy": 150,
        "truthfulqa_mc1": 150,
    }


@pytest.mark.parametrize("name", ["demo", "demo-model"])
def test_the_policies_of_the_demo_allow_ten_points_on_every_task(name: str):
    from tuneboard.gates import find_policy, load_policy

    policy = load_policy(find_policy(name), candidate="mine")
    assert policy.suite == name
    assert policy.margins == {task.task: 0.1 for task in find_suite(name).tasks}
    assert [(rule.rule, rule.tasks) for rule in policy.rules] == [
        ("improve", ("targets",)),
        ("not_regress", ("guards",)),
    ]


def test_truth_scores_the_best_answer_and_the_share_of_the_true_ones():
    score = module("truth").score
    labels = {"labels": [1, 1, 0, 0]}
    logprobs = [math.log(0.4), math.log(0.1), math.log(0.3), math.log(0.2)]
    assert score(labels, [(one, False) for one in logprobs]) == pytest.approx({"acc": 1.0, "mc2": 0.5})
    assert score(labels, [(one, False) for one in reversed(logprobs)]) == pytest.approx({"acc": 0.0, "mc2": 0.5})
    far = [(one - 5000.0, False) for one in logprobs]
    assert score(labels, far) == pytest.approx({"acc": 1.0, "mc2": 0.5})
