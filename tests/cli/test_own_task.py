"""A user's own rows become a task, a score, a comparison and a gate by typing what tasks/examples/README.md says."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from tuneboard.cli.main import main

pytest.importorskip("lm_eval")


def blocks(text: str) -> list[str]:
    """The indented blocks of a Markdown text."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("    "):
            found[-1].append(line[4:])
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) + "\n" for lines in found if lines]


@pytest.fixture
def typed(tmp_path: Path, tiny_model: Any, tiny_adapter: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs command lines in a folder with a base and an adapter; returns the exit codes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tuneboard.suites.index._lm_eval_tasks", lambda: None)
    base = tiny_model("llama")
    Path("base").symlink_to(base)
    Path("lora").symlink_to(tiny_adapter(base))
    Path("results").mkdir()

    def run(text: str) -> list[int]:
        lines = [shlex.split(line) for line in text.splitlines() if line.startswith("tuneboard ")]
        return [main([*words, "--quiet"]) for _, *words in lines]

    return run


def test_the_readme_leads_from_rows_to_a_gate(root: Path, typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    section = (root / "tasks/examples/README.md").read_text(encoding="utf-8").partition("## From rows to a gate\n")[2]
    rows, task, evaluate, compare, policy, gate = blocks(section.partition("\n## ")[0])
    assert len(task.splitlines()) <= 10
    Path("tickets.jsonl").write_text(rows, encoding="utf-8")
    Path("tickets.yaml").write_text(task, encoding="utf-8")
    Path("tickets-gate.yaml").write_text(policy, encoding="utf-8")

    assert typed(evaluate) == [0, 0]
    out = capsys.readouterr().out
    assert "tickets" in out and "±" in out, "a score with its interval"
    assert "macro F1" in out and "expected calibration error" in out and "meant \\ said" in out
    assert typed(compare) == [0]
    out = capsys.readouterr().out
    assert "tickets" in out and "acc" in out
    (code,) = typed(gate)
    assert code in (0, 1, 3)
    assert "not_regress" in capsys.readouterr().out
    assert time.monotonic() - started < 60


def test_each_shipped_example_is_evaluated_compared_and_explained(
    root: Path, typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    files = [
        root / "tasks/examples" / f"{name}.yaml" for name in ("choice", "classification", "generation", "perplexity")
    ]
    given = " ".join(f"--task-file {file}" for file in files)
    assert typed(f"tuneboard evaluate --model base --adapter mine=lora {given} --efficiency --json") == [0]
    found = json.loads(capsys.readouterr().out)
    headlines = {cell["task"]: cell["metrics"][0]["metric"] for cell in found["cells"]}
    assert headlines == {
        "example_choice": "acc",
        "example_classification": "acc",
        "example_generation": "rouge1",
        "example_perplexity": "word_perplexity",
    }
    for cell in found["cells"]:
        for metric in cell["metrics"]:
            assert metric["ci"] is None or metric["ci"][0] <= metric["value"] <= metric["ci"][1]
    cost = found["efficiency"]["mine"]
    assert cost["timed"] == 40
    assert cost["first_token_s"] > 0 and 0 < cost["latency_p50_s"] <= cost["latency_p95_s"] <= cost["latency_p99_s"]
    assert cost["tokens_per_s"] > 0

    assert typed("tuneboard compare base mine --json") == [0]
    tests: dict[str, dict[str, str]] = {}
    for row in json.loads(capsys.readouterr().out)["candidates"][0]["tasks"]:
        tests.setdefault(row["task"], {})[row["metric"]] = row["test"]
    assert tests["example_choice"]["acc"] == tests["example_classification"]["acc"] == "McNemar exact, Tango interval"
    paired = "paired swaps, t interval"  # for BCa too few of the rows change
    assert tests["example_classification"]["f1_macro"] == tests["example_classification"]["mcc"] == paired
    assert tests["example_generation"]["bleu"] == tests["example_perplexity"]["bits_per_byte"] == paired
    assert "length_ratio" not in tests["example_generation"]

    assert typed("tuneboard show mine --task example_generation --report") == [0]
    out = capsys.readouterr().out
    assert "repetitive" in out and "bleu" in out and "tok:13a" in out and "first token ms" in out
    assert typed("tuneboard export report --candidate mine --task example_choice --format csv") == [0]
    assert "reliability" in capsys.readouterr().out


def test_a_bad_task_file_is_one_line_with_all_that_is_wrong(typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("question,answer\nOne?,1\n", encoding="utf-8")
    Path("t.yaml").write_text(
        'task: t\nkind: generation\ndata: rows.csv\nprompt: "{{qestion}}"\nreference: answers\nmetrics: rogue\n',
        encoding="utf-8",
    )
    assert typed("tuneboard evaluate --model base --task-file t.yaml") == [2]
    err = capsys.readouterr().err
    assert all(part in err for part in ("did you mean question", "did you mean answer", "did you mean rouge"))
    assert typed("tuneboard evaluate --model base") == [2]
    assert "or --task-file FILE" in capsys.readouterr().err
    assert typed("tuneboard show base --report") == [2]
    assert "--report needs a candidate and a task" in capsys.readouterr().err


def test_an_own_task_is_judged_by_the_same_metric_however_it_was_named(
    root: Path, typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    examples = root / "tasks/examples"
    ways = (f"--task-file {examples}/generation.yaml", f"--include-path {examples} --tasks example_generation")
    judged = []
    for number, way in enumerate(ways):
        db = f"{number}.duckdb"
        assert typed(f"tuneboard evaluate --model base --adapter mine=lora {way} --db {db}") == [0]
        table = capsys.readouterr().out
        assert typed(f"tuneboard compare base mine --db {db} --json") == [0]
        rows = json.loads(capsys.readouterr().out)["candidates"][0]["tasks"]
        judged.append((next(row["metric"] for row in rows if row["headline"]), "rouge1" in table))
    assert judged == [("rouge1", True)] * 2


def test_a_margin_fits_the_metric_that_stands_for_the_task(
    root: Path, typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    source = (root / "tasks/examples/generation.yaml").read_text(encoding="utf-8")
    rows = root / "tasks/examples/data"
    written = re.sub(r"(?m)^metrics:.*$", "metrics: [bleu, rouge]", source).replace("data: data", f"data: {rows}")
    Path("texts.yaml").write_text(written, encoding="utf-8")
    assert typed("tuneboard evaluate --model base --adapter mine=lora --task-file texts.yaml") == [0]
    for task, expected in (("example_generation", {0, 1, 3}), ("all", {0, 1, 3})):
        Path("gate.yaml").write_text(
            f"candidate: mine\nrules:\n  - {{rule: not_regress, tasks: {task}, margin: 1}}\n", encoding="utf-8"
        )
        capsys.readouterr()
        (code,) = typed("tuneboard gate gate.yaml --json")
        assert code in expected
        (rule,) = json.loads(capsys.readouterr().out)["rules"]
        assert (rule["metric"], rule["margin"]) == ("bleu", 1)
