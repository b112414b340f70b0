import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tuneboard import bundled
from tuneboard.suites import TaskRequest, build_requests, find_suite, load_tasks

FOLDER = bundled.tasks_dir() / "demo"
NAMES = ("knowledge", "continuation", "math", "code", "truth")


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def rows(name: str, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "data" / f"{name}_{split}.jsonl").read_text().splitlines()]


def test_data_files_are_what_the_script_writes(tmp_path: Path):
    module("make_data").main(tmp_path)
    written = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert written == {file.name: file.read_bytes() for file in (FOLDER / "data").iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_small_and_share_no_document(name: str):
    train, test = rows(name, "train"), rows(name, "test")
    assert 24 <= len(test) <= 48
    assert len(train) >= 24
    assert not {json.dumps(row, sort_keys=True) for row in train} & {json.dumps(row, sort_keys=True) for row in test}


def test_reference_solutions_pass_their_tests_and_others_fail():
    for row in rows("code", "train") + rows("code", "test"):
        program = f"{{}}\n{row['test']}\ncheck({row['entry_point']})\n"
        exec(program.format(row["prompt"] + row["canonical_solution"]), {})
        with pytest.raises(AssertionError):
            exec(program.format(row["prompt"] + "    return None\n"), {})


def test_math_answers_are_right():
    for row in rows("math", "train") + rows("math", "test"):
        calculation, result = row["answer"].split("\n#### ")
        left, right = calculation.split(" = ")
        assert eval(left) == int(right) == int(result)


def test_demo_suite_loads_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    suite = find_suite("demo")
    loaded = load_tasks(TaskRequest(suite.tasks))
    assert list(loaded.tasks) == [f"demo_{name}" for name in NAMES]
    for name, task in loaded.tasks.items():
        assert build_requests(task, loaded.doc_ids[name])
    assert loaded.refs["demo_code"].output_type == "generate_until"


def test_truth_scores_the_best_answer_and_the_share_of_the_true_ones():
    score = module("truth").score
    labels = {"labels": [1, 1, 0, 0]}
    logprobs = [math.log(0.4), math.log(0.1), math.log(0.3), math.log(0.2)]
    assert score(labels, [(one, False) for one in logprobs]) == pytest.approx({"acc": 1.0, "mc2": 0.5})
    assert score(labels, [(one, False) for one in reversed(logprobs)]) == pytest.approx({"acc": 0.0, "mc2": 0.5})
    far = [(one - 5000.0, False) for one in logprobs]
    assert score(labels, far) == pytest.approx({"acc": 1.0, "mc2": 0.5})
