from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneboard import sandbox
from tuneboard.cli.main import main
from tuneboard.demo import TinySettings, keeping, world
from tuneboard.demo.settings import Teaching

NAMES = ["tiny-skill", "tiny-full"]
TASTE = (
    Teaching("skill", "LoRA", {"name": "lora", "rank": 2}, 2, 1e-3),
    Teaching("full", "all weights", {"name": "full"}, 2, 1e-3),
)
SMALL = TinySettings(hidden_size=64, layers=2, steps=4, batch=2, block=64, replay=100, candidates=TASTE)
#: Not the shipped one, so that the few items of ``few`` are asked.
SEED = ["--seed", "7"]


@pytest.fixture(autouse=True)
def taste(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Real training and real items, but only a taste of both unless the test is a long one, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEBOARD_MIRROR", raising=False)
    if "accept" in request.keywords:
        return
    monkeypatch.setattr(keeping, "TinySettings", lambda: SMALL)
    whole = world.write_items

    def few(made: world.World, folder: Path) -> None:
        parts = tuple(dataclasses.replace(part, items=part.items[:8]) for part in made.parts)
        whole(dataclasses.replace(made, parts=parts), folder)

    monkeypatch.setattr(world, "write_items", few)


def test_demo_makes_evaluates_and_judges_and_a_second_call_reuses_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *SEED, "--json"]) == 0
    first = capsys.readouterr()
    content = json.loads(first.out)
    assert content["base"] == "tiny-base"
    assert [one["name"] for one in content["candidates"]] == NAMES == list(content["verdicts"])
    cells = content["evaluate"]["cells"]
    assert {cell["status"] for cell in cells} == {"done"}
    assert len({cell["task"] for cell in cells if cell["kind"] == "task"}) == 6
    assert [one["name"] for one in content["compare"]["candidates"]] == NAMES
    assert {gate["policy"] for gate in content["gates"]} == {"demo"}
    assert "1 of 3: tiny-base" in first.err and "3 of 3: tiny-full" in first.err
    assert Path(content["db"]).is_file() and Path(content["folder"]).is_dir()

    assert main(["demo", *SEED]) == 0
    second = capsys.readouterr()
    assert "right answers in %" in second.out and "What the gate says" in second.out
    assert "results/tuneboard.duckdb" in second.out
    assert "step " not in second.err, "nothing is trained again"
    advice = second.err.splitlines()[-3:]
    commands = [shlex.split(line.partition(":")[2]) for line in advice]
    assert [words[:2] for words in commands] == [
        ["tuneboard", "leaderboard"],
        ["tuneboard", "evaluate"],
        ["tuneboard", "tune"],
    ]

    assert main(["demo", *SEED, "--json", "--quiet"]) == 0
    third = capsys.readouterr()
    assert json.loads(third.out)["verdicts"] == content["verdicts"]
    assert third.err == "", "quiet"

    Path("mine.jsonl").write_text("".join(json.dumps({"text": f"word {n} and {n * n}"}) + "\n" for n in range(60)))
    words = ["mine.jsonl".join(word.split("MINE.jsonl")) for word in commands[2][1:]]
    at = words.index("--evaluate")
    assert main([*words[:at], "--set", "training.max_steps=2", "--set", "data.max_length=64", "--quiet"]) == 0


def test_without_isolation_the_code_task_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: sandbox.Isolation(None, "nothing is installed"))
    assert main(["demo", *SEED, "--json", "--db", "elsewhere/x.duckdb"]) == 0
    said = capsys.readouterr()
    content = json.loads(said.out)
    tasks = {cell["task"] for cell in content["evaluate"]["cells"]}
    assert "demo_math" in tasks
    assert "demo_code" not in tasks
    assert "demo_code is left out" in said.err
    assert "invalid" not in content["verdicts"].values()
    assert said.err.splitlines()[-1].endswith("--db elsewhere/x.duckdb")
    assert list(Path("elsewhere/demo").glob("7-*/base"))


@pytest.mark.accept
@pytest.mark.timeout(1500)
def test_a_real_base_is_taught_on_small_real_data(
    stories260k: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model", str(stories260k), "--mirror", str(mirror), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["base"] == "stories260K-base"
    assert [one["name"] for one in content["candidates"]] == [
        f"stories260K-{n}" for n in ("skill", "replay", "lowrank")
    ]
    counts = {cell["task"]: cell["n"] for cell in content["evaluate"]["cells"] if cell["kind"] == "task"}
    assert counts == {"sst2": 200, "hellaswag": 150, "arc_easy": 150, "truthfulqa_mc1": 150}
    assert {gate["policy"] for gate in content["gates"]} == {"demo-model"}
    assert "invalid" not in content["verdicts"].values()


@pytest.mark.accept
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [21])
def test_shipped_demo_shows_forgetting_and_how_replay_prevents_it(seed: int, tmp_path: Path) -> None:
    """Killed again and again on the way, as people do who lose patience."""
    command = [sys.executable, "-m", "tuneboard", "demo", "--seed", str(seed), "--json"]
    for patience_s in (25, 60):
        killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            killed.wait(patience_s)
        except subprocess.TimeoutExpired:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True)
    content = json.loads(done.stdout)
    rows = {(one["name"], row["task"]): row for one in content["compare"]["candidates"] for row in headlines(one)}
    base = {task: row["base"] for (name, task), row in rows.items() if name == "tiny-skill"}
    chance = {"demo_knowledge": 0.25, "demo_continuation": 0.25, "demo_math": 0.0, "demo_code": 0.0, "demo_truth": 0.25}
    assert sum(base[task] > level + 0.25 for task, level in chance.items()) >= 4
    assert rows["tiny-skill", "demo_subtraction"]["delta"] >= 0.6
    assert min(rows["tiny-skill", task]["delta"] for task in chance) <= -0.3
    assert rows["tiny-replay", "demo_subtraction"]["delta"] >= 0.6
    assert all(rows["tiny-replay", task]["bound"] > -0.1 for task in chance)
    assert content["verdicts"]["tiny-skill"] == "fail"
    assert content["verdicts"]["tiny-replay"] == "pass"


def headlines(candidate: Any) -> list[Any]:
    return [row for row in candidate["tasks"] if row["headline"] and row["role"] != "none"]
