"""``tuneboard evaluate`` as a command: its JSON, its streams, its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tuneboard
from tuneboard.cli.main import main
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.store import queries

NUMBER = (int, float)
CELL = {
    "candidate": str,
    "task": str,
    "kind": str,
    "status": str,
    "reason": (str, type(None)),
    "n": int,
    "failed": int,
    "seconds": NUMBER,
    "tokens": dict,
    "metrics": list,
}
METRIC = {
    "metric": str,
    "filter": str,
    "value": (*NUMBER, type(None)),
    "stderr": (*NUMBER, type(None)),
    "ci": (list, type(None)),
    "higher_is_better": (bool, type(None)),
}


def check_types(found: dict[str, Any], expected: dict[str, Any], exactly: bool = True) -> None:
    assert not exactly or found.keys() == expected.keys()
    for key, kinds in expected.items():
        assert isinstance(found[key], kinds), (key, found[key])


def strict(text: str) -> Any:
    """Read JSON that has no NaN and no infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``evaluate`` on a fake base and adapter; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    world.make_model(Path("model"))
    world.make_adapter(Path("a"))

    def run(*argv: str, behaviour: Behaviour | None = None) -> tuple[int, str, str]:
        fake = behaviour or Behaviour(world.texts())
        monkeypatch.setattr("tuneboard.cli.evaluate._engine_factory", lambda args: lambda r, n: FakeEngine(r, fake))
        capsys.readouterr()
        given = ["--model", "model", "--adapter", "a=a", "--include-path", str(world.TASKS), "--db", "r.duckdb"]
        code = main(["evaluate", *given, *argv])
        return (code, *capsys.readouterr())

    return run


def test_json_has_every_key_of_the_contract(command: Any) -> None:
    code, out, err = command("--tasks", "toy_school,toy_sums,toy_words,toy_tales", "--json")
    found = strict(out)
    assert code == 0
    contract = {"schema": int, "run": str, "db": str, "seconds": NUMBER, "engine": dict, "cells": list}
    check_types(found, contract, exactly=False)
    assert found["schema"] == 1
    check_types(found["engine"], dict.fromkeys(("name", "version", "device", "dtype"), str))
    for cell in found["cells"]:
        check_types(cell, CELL)
        assert cell["kind"] == ("group" if cell["task"] in ("toy_school", "toy_quizzes") else "task")
        assert cell["status"] == "done"
        check_types(cell["tokens"], dict.fromkeys(("computed", "reused", "distinct"), int), exactly=False)
        assert cell["metrics"]
        for metric in cell["metrics"]:
            check_types(metric, METRIC)
            if metric["ci"] is not None:
                assert metric["ci"][0] <= metric["value"] <= metric["ci"][1]
    assert len({(cell["candidate"], cell["task"]) for cell in found["cells"]}) == len(found["cells"]) == 16
    assert "requests" in err and "requests" not in out


def test_json_of_a_second_call_says_reused_with_the_same_numbers(command: Any) -> None:
    first, second = (strict(command("--tasks", "toy_quizzes,toy_sums", "--json")[1])["cells"] for _ in range(2))
    assert {cell["status"] for cell in second} == {"reused"}
    for cell in (*first, *second):
        del cell["status"]
    assert first == second


def test_json_of_failures_has_reasons_and_nulls(command: Any) -> None:
    fails = Behaviour(fails=lambda work: "moon" in work.arguments[0])
    code, out, _ = command("--tasks", "toy_mc1,toy_undefined,toy_unscorable", "--json", behaviour=fails)
    cells = {(cell["candidate"], cell["task"]): cell for cell in strict(out)["cells"]}
    assert code == 2
    one, undefined, broken = (cells["base", task] for task in ("toy_mc1", "toy_undefined", "toy_unscorable"))
    assert (one["status"], one["n"], one["failed"]) == ("done", 3, 1)
    assert "told to fail" in one["reason"]
    assert undefined["metrics"][0]["value"] is None
    assert (broken["status"], broken["metrics"]) == ("failed", [])
    assert "no such column" in broken["reason"]


def test_progress_goes_to_stderr_and_quiet_silences_it(command: Any) -> None:
    code, out, err = command("--tasks", "toy_mc1")
    assert code == 0
    assert "toy_mc1" in out and "every sample is in r.duckdb" in out
    assert err.splitlines()[0] == "loading model"
    assert command("--tasks", "toy_mc2", "--quiet")[2] == ""
    assert command("--tasks", "toy_mc2", "--json", "--quiet")[2] == ""


def test_the_exit_code_is_2_where_a_cell_failed_or_is_invalid_and_the_others_are_shown(command: Any) -> None:
    assert command("--tasks", "toy_mc1")[0] == 0
    code, out, _ = command("--tasks", "toy_mc1,toy_unscorable")
    assert code == 2
    assert "toy_mc1" in out and "scoring failed" in out
    code, out, _ = command("--tasks", "toy_mc2", behaviour=Behaviour(ignores_adapters=True))
    assert code == 2
    assert "'a' was not applied" in out


def test_a_taken_name_is_freed_by_the_command_in_the_message(command: Any, world: Any) -> None:
    assert command("--tasks", "toy_mc1")[0] == 0
    (Path("a") / "adapter_model.safetensors").write_text("trained again")
    code, _, err = command("--tasks", "toy_mc1", "--quiet")
    assert code == 2
    rename = err.partition("free it with: tuneboard ")[2].split()
    rename[rename.index("NEW-NAME")] = "a-of-yesterday"
    assert main(rename) == 0
    assert command("--tasks", "toy_mc1")[0] == 0
    assert [row.name for row in queries.models(Path("r.duckdb"))] == ["base", "a-of-yesterday", "a"]


def _environment() -> dict[str, str]:
    package = str(Path(tuneboard.__file__).parent.parent)
    return os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def test_the_real_command_on_a_real_model_prints_json_alone(
    stories260k: Path, tiny_adapter: Any, world: Any, tmp_path: Path
) -> None:
    arguments = ["--model", stories260k, "--adapter", f"a={tiny_adapter(stories260k)}", "--tasks", "toy_mc1,toy_sums"]
    given = [*arguments, "--limit", "2", "--include-path", world.TASKS, "--db", tmp_path / "r.duckdb", "--json"]
    line = [sys.executable, "-m", "tuneboard", "evaluate", *map(str, given)]
    ended = subprocess.run(line, capture_output=True, text=True, env=_environment(), check=False)
    assert ended.returncode == 0, ended.stderr
    found = strict(ended.stdout)
    assert found["engine"]["name"] == "transformers"
    assert [(cell["candidate"], cell["status"], cell["n"]) for cell in found["cells"]] == [
        ("base", "done", 2),
        ("a", "done", 2),
    ] * 2
    (run,) = queries.runs(tmp_path / "r.duckdb")
    assert run.command.startswith("tuneboard evaluate --model ")
    assert run.engine["dtype"] == "float32"
    assert {"torch", "transformers", "peft"} <= run.versions.keys()


@pytest.mark.accept
def test_the_real_command_on_a_real_model_survives_kills_at_any_time(
    stories260k: Path, tiny_adapter: Any, mirror: Path, world: Any, tmp_path: Path
) -> None:
    arguments = ["--model", stories260k, "--adapter", f"a={tiny_adapter(stories260k)}", "--limit", "12", "--quiet"]
    arguments += ["--tasks", "mmlu_anatomy,gsm8k,truthfulqa_mc1,truthfulqa_mc2", "--mirror", mirror, "--gen-kwargs"]

    def start(name: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "tuneboard", "evaluate", *map(str, arguments)]
        return subprocess.Popen([*line, "max_gen_toks=24", "--db", str(tmp_path / name)], env=_environment())

    started = time.monotonic()
    assert start("alone.duckdb").wait() == 0
    seconds = time.monotonic() - started
    kills = 0
    for share in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9):
        process = start("killed.duckdb")
        try:
            process.wait(seconds * share)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert start("killed.duckdb").wait() == 0
    assert kills >= 2
    found, expected = world.content(tmp_path / "killed.duckdb"), world.content(tmp_path / "alone.duckdb")
    assert [row["id"] for row in found["cells"]] == [row["id"] for row in expected["cells"]]
    # What shares a batch with what else decides the last bits of a log-probability.
    for table in ("candidates", "tasks", "documents"):
        assert found[table] == expected[table]
    for one, two in zip(found["metrics"], expected["metrics"], strict=True):
        assert one == pytest.approx(two, abs=1e-4)
