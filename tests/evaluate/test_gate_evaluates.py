"""``tuneboard gate`` with a section ``evaluate``: a real model, a real adapter that harms, a baseline."""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from tuneboard.cli.main import main
from tuneboard.store import queries

#: What a model of children's stories knows: which word ends the sentence, and which never would.
ENDINGS = (
    ("{} was very happy and had a big smile on her", " face", " tree"),
    ("{} liked to play outside in the", " park", " and"),
    ("Once upon a time, there was a little girl named {}. She loved to", " play", " the"),
    ("{} said thank you to her", " mom", " went"),
    ("The next day, {} went to the park with her", " friends", " was"),
    ("{} saw a big red", " ball", " said"),
    ("It was a sunny day and {} wanted to go", " outside", " him"),
    ("{} was sad because she lost her", " toy", " but"),
)
NAMES = ("Lily", "Sue", "Mia", "Amy", "Anna", "Jane", "Lucy", "Sara", "Emma", "Kim", "May", "Ann")
TASK = """\
task: endings
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/endings.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
POLICY = """\
name: endings
candidate: harmed
rules:
  - {{rule: not_regress, tasks: endings, margin: 0.1}}
{more}evaluate:
  model: {model}
  adapter: {adapter}
  tasks: [endings]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a task of 96 documents."""
    rows = []
    for i, ((text, good, bad), name) in enumerate(product(ENDINGS, NAMES)):
        choices = [good, bad] if i % 2 else [bad, good]
        rows.append(json.dumps({"text": text.format(name), "choices": choices, "answer": choices.index(good)}))
    (tmp_path / "endings.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "endings.yaml").write_text(TASK.format(folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path


@pytest.fixture
def gate(folder: Path, stories260k: Path) -> Any:
    harmed = tiny_models.save_adapter(folder / "harmed", stories260k, strength=8.0)

    def run(*arguments: str, **policy: object) -> int:
        text = POLICY.format(**({"model": stories260k, "adapter": harmed, "more": ""} | policy))
        (folder / "policy.yaml").write_text(text)
        return main(["gate", "policy.yaml", "--include-path", str(folder), "--db", "x.duckdb", *arguments, "--quiet"])

    return run


def test_an_adapter_that_harms_fails_before_all_is_asked(gate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate("--json-file", "g.json", "--junit", "j.xml") == 1
    out = capsys.readouterr().out
    found = json.loads(Path("g.json").read_text())

    assert out.startswith("FAIL  harmed against base, policy endings")
    (rule,) = found["rules"]
    assert rule["stop"]["early"] and rule["stop"]["n"] == found["asked"]["endings"] < 96
    assert rule["base"] > 0.75 > rule["candidate"]
    assert {cell.n for cell in queries.cells(Path("x.duckdb"))} == {rule["stop"]["n"]}

    assert gate("--json-file", "again.json") == 1
    again = json.loads(Path("again.json").read_text())
    assert again["rules"] == found["rules"] and again["asked"] == {}


def test_a_baseline_stands_in_for_the_base(gate: Any, stories260k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ["--tasks", "endings", "--include-path", ".", "--db", "other.duckdb", "--quiet"]
    assert main(["evaluate", "--model", str(stories260k), *whole]) == 0
    assert main(["baseline", "bless", "base", "--as", "main", "--db", "other.duckdb"]) == 0
    capsys.readouterr()

    assert gate("--base", "baseline:main", "--json-file", "g.json", "--junit", "j.xml") == 1
    found = json.loads(Path("g.json").read_text())
    (rule,) = found["rules"]

    # The candidate alone is asked, in the same order and as far as beside its base.
    assert rule["stop"]["early"] and rule["stop"]["n"] == found["asked"]["endings"] < 96
    assert {(cell.candidate, cell.n) for cell in queries.cells(Path("x.duckdb"))} == {("harmed", rule["stop"]["n"])}
    assert gate("--json-file", "both.json", "--db", "both.duckdb") == 1
    assert json.loads(Path("both.json").read_text())["rules"] == [rule]

    assert gate("--base", "baseline:main", "--json-file", "again.json") == 1
    again = json.loads(Path("again.json").read_text())
    assert (again["rules"], again["asked"]) == ([rule], {})


def test_a_baseline_that_was_asked_otherwise_is_refused_before_a_model_answers(
    gate: Any, stories260k: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ["--tasks", "endings", "--limit", "40", "--include-path", ".", "--db", "other.duckdb", "--quiet"]
    assert main(["evaluate", "--model", str(stories260k), *part]) == 0
    assert main(["baseline", "bless", "base", "--as", "main", "--db", "other.duckdb"]) == 0

    assert gate("--base", "baseline:main", "--json-file", "g.json") == 2
    found = json.loads(Path("g.json").read_text())

    assert (found["verdict"], found["rules"]) == ("invalid", [])
    assert "lacks 56 of the 96 documents of endings" in found["reasons"][0]
    assert not Path("x.duckdb").exists()


def test_what_cannot_be_loaded_is_one_line(gate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(adapter="./nowhere") == 2
    out, err = capsys.readouterr()
    assert out == "" and "no adapter at './nowhere'" in err and err.count("\n") == 1
    assert gate("--run", "some") == 2
    assert "--run some" in capsys.readouterr().err


def test_speed_is_measured_where_a_rule_asks(gate: Any) -> None:
    rules = {"latency_p95": 100, "tokens_per_s": 0.01, "peak_memory": 1.1}
    more = "".join(f"  - {{rule: {rule}, value: {value}}}\n" for rule, value in rules.items())
    gate("--json-file", "g.json", more=more)
    _, latency, speed, memory = json.loads(Path("g.json").read_text())["rules"]

    assert (latency["verdict"], speed["verdict"]) == ("pass", "pass")
    assert 0 < latency["candidate_cost"] < 10 and speed["base_cost"] > 1
    # Linux tells a process's peak; elsewhere it is not measured and so not passed.
    assert memory["verdict"] == ("pass" if os.access("/proc/self/clear_refs", os.W_OK) else "invalid")

    # What was measured is kept, for gates that evaluate nothing.
    Path("later.yaml").write_text("candidate: harmed\nrules:\n" + more)
    main(["gate", "later.yaml", "--db", "x.duckdb", "--json-file", "later.json"])
    later = json.loads(Path("later.json").read_text())["rules"]
    assert [one["candidate_cost"] for one in later] == [one["candidate_cost"] for one in (latency, speed, memory)]
