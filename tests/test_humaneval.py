"""HumanEval as tuneboard ships it: the same task as lm-eval's, scored in the sandbox."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from task_yaml import settings

from tuneboard import sandbox, stats
from tuneboard.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tasks" / "humaneval"
NAMES = ("humaneval", "humaneval_64", "humaneval_instruct", "humaneval_64_instruct", "humaneval_plus")

TOYS = [
    {"task_id": f"toy/{name}", "prompt": head, "entry_point": name, "canonical_solution": body, "test": test}
    for name, head, body, test in [
        (
            "double",
            'def double(x):\n    """Twice x."""\n',
            "    return 2 * x\n",
            "def check(f):\n    assert f(4) == 8\n",
        ),
        (
            "last",
            'def last(l):\n    """Last one."""\n',
            "    return l[-1]\n",
            "def check(f):\n    assert f([1, 2]) == 2\n",
        ),
    ]
]


@pytest.fixture(scope="module")
def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("humaneval_scorer", FOLDER / "scorer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def isolated() -> None:
    if not sandbox.isolation().available:
        pytest.skip(sandbox.isolation().reason)


@pytest.fixture(scope="module")
def problems(mirror: Path) -> list[dict[str, Any]]:
    """All 164 problems of the real data."""
    path = mirror / "openai" / "openai_humaneval" / "default" / "test.parquet"
    if not path.exists():
        pytest.skip(f"needs the real data: {path} is missing")
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)])
    columns = [column[0] for column in rows.description]
    return [dict(zip(columns, row, strict=True)) for row in rows.fetchall()]


def broken(solution: str) -> str:
    """Replace what the last `return` gives back by something false that equals no right answer."""
    return re.sub(r"(?s)(.*\breturn\b)[^\n]*", r'\1 memoryview(b"")', solution, count=1)


def test_all_canonical_solutions_of_the_real_data_pass(scorer, problems) -> None:
    endings = scorer.run_completions([[each["canonical_solution"]] for each in problems], problems)

    assert len(problems) == 164
    assert {
        each["task_id"]: ending for each, (ending,) in zip(problems, endings, strict=True) if ending["reason"]
    } == {}
    assert all(ending["status"] == "passed" for (ending,) in endings)


def test_each_canonical_solution_with_a_broken_line_fails(scorer, problems) -> None:
    solutions = [broken(each["canonical_solution"]) for each in problems]
    endings = scorer.run_completions([[solution] for solution in solutions], problems)

    assert all(solution != each["canonical_solution"] for solution, each in zip(solutions, problems, strict=True))
    statuses = {each["task_id"]: ending["status"] for each, (ending,) in zip(problems, endings, strict=True)}
    assert {name: status for name, status in statuses.items() if status != "failed"} == {}
    assert all(ending["reason"] for (ending,) in endings)


def test_samples_keep_their_places_and_tell_their_endings_apart(scorer) -> None:
    right, wrong = "    return 2 * x\n", "    return x\n"
    endings = scorer.run_completions(
        [[wrong, right, right], ["    import os; os._exit(0)\n", "    return l[-1]\n", "    while True: pass\n"]], TOYS
    )

    assert [[ending["status"] for ending in each] for each in endings] == [
        ["failed", "passed", "passed"],
        ["crashed", "passed", "timed_out"],
    ]
    assert endings[0][0]["reason"] == "AssertionError (line 6: assert f(4) == 8)"
    assert json.loads(json.dumps(endings)) == endings


def test_the_same_program_runs_once(scorer, monkeypatch) -> None:
    ran: list[str] = []
    real = sandbox.run_programs
    monkeypatch.setattr(sandbox, "run_programs", lambda sources: ran.extend(sources) or real(sources))

    # No other test has this answer: what was judged in this process before is not run again.
    endings = scorer.run_completions([["    return 2 * x  # once\n"] * 5], TOYS[:1])

    assert len(ran) == 1
    assert [ending["status"] for ending in endings[0]] == ["passed"] * 5


def test_a_chat_answer_ends_at_its_fence(scorer) -> None:
    answers = [["    return 2 * x\n```\nThis doubles x."], ["    return l[-1]\n"]]

    assert [[one["status"] for one in each] for each in scorer.run_fenced_completions(answers, TOYS)] == [
        ["passed"]
    ] * 2
    assert scorer.run_completions(answers, TOYS)[0][0]["status"] == "failed"


def test_pass_at_k_is_estimated_without_bias_and_leaves_out_what_the_samples_do_not_allow(scorer) -> None:
    endings = [{"status": status, "reason": ""} for status in ("passed", "failed", "passed", "crashed", "timed_out")]

    assert scorer.pass_at_k(references=["tests"], predictions=[endings], k=[1, 2, 8]) == {
        "pass@1": pytest.approx(2 / 5),
        "pass@2": pytest.approx(1 - 3 / 10),
    }
    assert scorer.pass_at_k(["tests"], [endings], 1) == {"pass@1": pytest.approx(0.4)}
    with pytest.raises(UsageError, match="pass@8 needs as many samples, the task drew 5; set `repeats`"):
        scorer.pass_at_k(["tests"], [endings], [8, 16])


@pytest.mark.parametrize("name", NAMES)
def test_the_task_asks_what_lm_eval_asks(name: str) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    ours, theirs = settings(FOLDER, name), settings(Path(lm_eval.__file__).parent / "tasks" / "humaneval", name)

    # The filter runs the programs, where lm-eval's only builds them.
    assert [each["name"] for each in ours.pop("filter_list")] == [each["name"] for each in theirs.pop("filter_list")]
    assert ours == theirs


class _Parrot:
    """An answer for each prompt, in turn."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.answers = {prompt: iter(texts) for prompt, texts in answers.items()}

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [next(self.answers[request.args[0]]) for request in requests]


def test_lm_eval_itself_reports_it_under_the_same_keys(tmp_path: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    (tmp_path / "toys.jsonl").write_text("".join(json.dumps(each) + "\n" for each in TOYS))
    config = {
        "include": str(FOLDER / "humaneval.yaml"),
        "task": "humaneval_toys",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "toys.jsonl")}},
        "repeats": 3,
    }
    text = yaml.safe_dump(config) + "metric_list:\n  - metric: !function scorer.pass_at_k\n    aggregation: mean\n"
    (tmp_path / "toys.yaml").write_text(text + "    higher_is_better: true\n    k: [1, 2]\n")
    (tmp_path / "scorer.py").write_text((FOLDER / "scorer.py").read_text())
    parrot = _Parrot(
        {
            TOYS[0]["prompt"]: ["    return 2 * x\n", "    return x\n", "    return None\n"],
            TOYS[1]["prompt"]: ["    return l[-1]\n"] * 3,
        }
    )
    model = type(
        "Model", (LM,), {"generate_until": parrot.generate_until, "loglikelihood": None, "loglikelihood_rolling": None}
    )

    found = lm_eval.simple_evaluate(
        model=model(),
        tasks=["humaneval_toys"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        confirm_run_unsafe_code=True,
        bootstrap_iters=0,
    )

    result = found["results"]["humaneval_toys"]
    assert result["pass@1,create_test"] == pytest.approx((1 / 3 + 1) / 2)
    assert result["pass@2,create_test"] == pytest.approx((stats.pass_at_k(3, 1, 2) + 1) / 2)
    samples = found["samples"]["humaneval_toys"]
    assert [each["filter"] for each in samples] == ["create_test"] * 2
    statuses = [ending["status"] for ending in samples[0]["filtered_resps"][0]]
    assert statuses == ["passed", "failed", "failed"]
