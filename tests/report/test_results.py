import dataclasses
import json
import math

import pytest

from tuneboard.records import (
    AdapterRef,
    Candidate,
    CellKey,
    CellStatus,
    MetricValue,
    ModelRef,
    TaskRef,
    TaskResult,
    TokenCount,
)
from tuneboard.report.results import evaluate_json, format_results

MODEL = ModelRef("some/model", sha256="m")
BASE = Candidate("base", MODEL)
MINE = Candidate("mine", MODEL, AdapterRef("runs/mine", "a", "LORA"))


def result(
    candidate: Candidate,
    task: str,
    *metrics: MetricValue,
    status: CellStatus = "done",
    failed: int = 0,
    reason: str | None = None,
    members: tuple[str, ...] = (),
) -> TaskResult:
    reference = TaskRef(task, f"fp-{task}", "d", 5, "1", "multiple_choice")
    key = CellKey(candidate.fingerprint, reference.fingerprint, "", "transformers", "float32", None, 0, "all")
    kind = "group" if members else "task"
    return TaskResult(
        candidate, reference, key, kind, status, metrics, (), 100, failed, reason, 1.5, TokenCount(7, 2, 7), members
    )


def accuracy(value: float, higher_is_better: bool = True) -> MetricValue:
    return MetricValue("acc", "none", value, 0.05, (value - 0.1, value + 0.1), higher_is_better)


def test_a_table_shows_values_half_widths_and_plain_differences() -> None:
    table = format_results([result(BASE, "mmlu", accuracy(0.25)), result(MINE, "mmlu", accuracy(0.5))])
    assert table.splitlines()[-1].split() == [
        "mmlu",
        "acc",
        "100",
        "0.2500",
        "±0.1000",
        "0.5000",
        "±0.1000",
        "(+0.2500)",
    ]


def test_marks_are_explained_where_they_are_used() -> None:
    table = format_results(
        [
            result(BASE, "mmlu", accuracy(0.25), status="reused"),
            result(MINE, "mmlu", accuracy(0.25), status="invalid", reason="the adapter changes nothing"),
            result(BASE, "gsm8k", status="failed", reason="no such split"),
        ]
    )
    lines = table.splitlines()
    assert "= 0.2500" in lines[2]
    assert "x 0.2500" in lines[2]
    assert "(" not in lines[2]
    assert lines[3].split() == ["gsm8k", "-", "100", "!", "-"]
    assert lines[4] == "= reused from the database  ! failed  x invalid"
    assert lines[5:] == ["mine on mmlu: the adapter changes nothing", "base on gsm8k: no such split"]


def test_failed_samples_are_counted_beside_the_value() -> None:
    assert "[3 failed]" in format_results([result(BASE, "mmlu", accuracy(0.25), failed=3)])


def test_members_of_a_shown_group_are_left_out_unless_asked_for() -> None:
    results = [
        result(BASE, "mmlu", accuracy(0.3), members=("mmlu_anatomy", "mmlu_law")),
        result(BASE, "mmlu_anatomy", accuracy(0.2)),
        result(BASE, "mmlu_law", accuracy(0.4)),
    ]
    assert len(format_results(results).splitlines()) == 3
    assert len(format_results(results, members=True).splitlines()) == 5


def test_a_metric_where_lower_is_better_says_so() -> None:
    assert "acc ↓" in format_results([result(BASE, "wiki", accuracy(0.3, higher_is_better=False))])


@pytest.mark.parametrize(
    ("value", "said"), [(math.nan, "not a number"), (math.inf, "infinite"), (-math.inf, "minus infinite")]
)
def test_numbers_that_json_lacks_become_null_and_words_in_the_table(value: float, said: str) -> None:
    broken = MetricValue("acc", "none", value, value, (value, 1.0), None)
    built = evaluate_json("run1", "x.duckdb", 2.0, {"name": "transformers"}, [result(BASE, "mmlu", broken)])
    (cell,) = json.loads(json.dumps(built, allow_nan=False))["cells"]
    assert cell["metrics"] == [
        {
            "metric": "acc",
            "filter": "none",
            "value": None,
            "stderr": None,
            "ci": [None, 1.0],
            "higher_is_better": None,
        }
    ]
    row = format_results([result(BASE, "mmlu", broken), result(MINE, "mmlu", broken)]).splitlines()[-1]
    assert row.count(said) == 2 and "?" not in row


def test_the_json_has_the_keys_of_its_contract() -> None:
    engine = {"name": "transformers", "version": "5", "device": "cpu", "dtype": "float32", "threads": "2"}
    built = evaluate_json("run1", "x.duckdb", 2.0, engine, [result(MINE, "mmlu", accuracy(0.5))])
    assert list(built) == ["schema", "run", "db", "seconds", "engine", "cells"]
    assert built["schema"] == 1
    assert built["engine"] == {"name": "transformers", "version": "5", "device": "cpu", "dtype": "float32"}
    (cell,) = built["cells"]
    assert cell == {
        "candidate": "mine",
        "task": "mmlu",
        "kind": "task",
        "status": "done",
        "reason": None,
        "n": 100,
        "failed": 0,
        "seconds": 1.5,
        "tokens": {"computed": 7, "reused": 2, "distinct": 7, "padded": 0, "truncated": 0},
        "metrics": [
            {
                "metric": "acc",
                "filter": "none",
                "value": 0.5,
                "stderr": 0.05,
                "ci": [0.4, 0.6],
                "higher_is_better": True,
            }
        ],
    }


def test_no_results_are_said_to_be_none() -> None:
    assert format_results([]) == "no results"


def cut(one: TaskResult, truncated: int) -> TaskResult:
    return dataclasses.replace(one, tokens=TokenCount(7, 2, 7, 0, truncated))


def test_cut_requests_are_told_below_the_table_once_for_candidates_that_share_them() -> None:
    of_base, of_mine = (
        [cut(result(one, "hellaswag", accuracy(0.3), failed=20), 3), cut(result(one, "gsm8k", accuracy(0.3)), count)]
        for one, count in ((BASE, 1234), (MINE, 1234))
    )
    last = format_results([*of_base, *of_mine]).splitlines()[-1]
    assert last == (
        "base, mine: requests cut to fit the context: 3 on hellaswag (120 documents), 1,234 on gsm8k (100 documents)"
    )
    assert "cut" not in format_results([cut(one, 0) for one in of_base])
    lines = format_results([*of_base, of_mine[0]]).splitlines()
    assert lines[-1] == "mine: requests cut to fit the context: 3 on hellaswag (120 documents)"
    assert lines[-2].startswith("base: requests cut")


def test_cut_requests_of_a_group_are_told_once() -> None:
    group = cut(result(BASE, "mmlu", accuracy(0.3), members=("mmlu_law",)), 5)
    table = format_results([group, cut(result(BASE, "mmlu_law", accuracy(0.3)), 5)])
    assert table.splitlines()[-1] == "base: requests cut to fit the context: 5 on mmlu (100 documents)"


def test_names_and_reasons_cannot_steer_the_terminal() -> None:
    odd = dataclasses.replace(BASE, name="ba\x1b[2Jse")
    text = format_results([result(odd, "mm\x9blu", status="failed", reason="no\x1b[31m\nsplit")])
    assert text.replace("\n", "").isprintable()
    assert text.splitlines()[-1].endswith("no\N{REPLACEMENT CHARACTER}[31m split")
