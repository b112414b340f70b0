from __future__ import annotations

import io
from typing import Any

import pytest

from tuneboard.report.made import MadeRow, data_table, format_made, made_json
from tuneboard.report.training import TrainingProgress, bar, step_line

VALUES = {
    "loss": 1.23456,
    "learning_rate": 2e-4,
    "tokens_per_s": 12345.6,
    "seconds_left": 120.0,
    "memory_gib": 3.25,
    "grad_norm": 1.0,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_says_what_is_known() -> None:
    line = step_line("mine", 10, 200, VALUES)
    assert line == "mine step 10/200, loss 1.2346, lr 2.00e-04, 12,346 tokens/s, 2 min left, 3.2 GiB"
    assert step_line("", 1, 2, {}) == "step 1/2"


def test_without_a_terminal_there_are_plain_lines_now_and_then() -> None:
    stream = io.StringIO()
    with TrainingProgress(stream=stream, interval_s=1000) as progress:
        progress.begin("mine", 1, 1)
        for step in range(1, 51):
            progress.step(step, 50, VALUES | ({"validation_loss": 2.5} if step == 20 else {}))
        progress.note("done")
    first, last, note = stream.getvalue().splitlines()
    assert "step 1/50" in first and "step 50/50" in last and note == "done"
    assert "validation 2.5000" in last, "the latest stays"
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_one_line_that_is_redrawn_and_wiped() -> None:
    stream = Terminal()
    with TrainingProgress(stream=stream) as progress:
        progress.begin("mine", 2, 3)
        progress.step(1, 2, VALUES)
        progress.note("a warning")
        progress.step(2, 2, VALUES)
    text = stream.getvalue()
    assert text.startswith("2 of 3: mine\n")
    assert "\r\x1b[K" + "━" * 10 in text
    assert "\r\x1b[Ka warning\n" in text
    assert text.endswith("\r\x1b[K")


def test_quiet_writes_nothing_and_a_closed_stream_ends_nothing() -> None:
    stream = io.StringIO()
    with TrainingProgress(quiet=True, stream=stream) as progress:
        progress.begin("mine", 1, 2)
        progress.step(1, 1, VALUES)
        progress.note("x")
    assert stream.getvalue() == ""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "full")

    with TrainingProgress(stream=Full()) as progress:
        progress.note("x")
        progress.step(1, 1, VALUES)


@pytest.mark.parametrize(("done", "filled"), [(0, 0), (50, 10), (100, 20), (200, 20)])
def test_a_bar_fills(done: int, filled: int) -> None:
    assert bar(done, 100).count("━") == filled


def made(name: str = "mine", **changes: Any) -> MadeRow:
    data = {
        "sources": [{"path": "train.jsonl", "rows": 100, "format": "chat", "sha256": "s"}],
        "steps": [
            {"name": "exact duplicates", "removed": 3, "flagged": 0, "places": ["train.jsonl line 5"]},
            {"name": "secrets", "removed": 0, "flagged": 2, "places": [f"line {i}" for i in range(9)]},
        ],
        "leaks": [{"task": "gsm8k", "doc_id": i, "place": f"row {i}", "overlap": 0.9} for i in range(7)],
        "train": 80,
        "validation": 10,
        "labels": {"no": 30, "yes": 50},
        "mixture": {"train.jsonl": 80},
        "sha256": "d",
    }
    training = {
        "trained_parameters": 10,
        "total_parameters": 1000,
        "first_validation_loss": 2.0,
        "validation_loss": float("nan"),
        "steps": 5,
        "seconds": 2.0,
    }
    provenance = {
        "data": data,
        "training": training,
        "warnings": ["few rows"],
        "serving": [{"engine": "vllm", "takes": "no", "note": "why"}],
        "checked_against": ["gsm8k"],
        "fingerprint": "f",
        "training_run": "tune-1",
        "method": {"name": "lora"},
        "kind": "causal",
        "labels": [],
    }
    return MadeRow(name, "trained", f"out/{name}", None, provenance | changes)


def test_the_data_table_counts_every_step_and_names_leaks() -> None:
    text = data_table(made().provenance["data"], checked=["gsm8k"])
    rows = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "-3" in rows["exact duplicates"] and "train.jsonl line 5" in rows["exact duplicates"]
    assert "2 flagged" in rows["secrets"] and "line 4, ..." in rows["secrets"]
    assert "7" in rows["benchmark items found"] and "gsm8k 4 in row 4 (90%) and 2 more" in rows["benchmark items found"]
    assert "no 30, yes 50" in rows["training examples"]
    none = {**made().provenance["data"], "leaks": []}
    assert "of gsm8k" in data_table(none, checked=["gsm8k"])
    assert "not looked for" in data_table(none, checked=[])


def test_trials_share_a_table_and_failures_say_why() -> None:
    rows = [made("a"), made("b"), MadeRow("c", "failed", reason="no module 'x'")]
    text = format_made(rows)
    assert text.count("exact duplicates") == 1, "equal data are shown once"
    assert "10 of 1,000 (1.00%)" in text and "2.0000" in text
    assert "c failed: no module 'x'" in text
    assert "a: warning: few rows" in text
    assert text.count("served by vllm: no (why)") == 1
    content = made_json(rows)
    assert [one["status"] for one in content] == ["trained", "trained", "failed"]
    assert content[0]["training"]["validation_loss"] is None and content[2]["training"] is None
