"""``tuneboard evaluate --repeat``: the same again under other orders and seeds, and the noise that shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard.cli.main import main
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.store import queries

DB = Path("r.duckdb")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, world: Any, tmp_path: Path) -> Any:
    """Runs ``evaluate`` on a fake base and adapter; returns what each engine computed."""
    monkeypatch.chdir(tmp_path)
    world.make_model(Path("model"))
    world.make_adapter(Path("a"))

    def run(*argv: str) -> list[FakeEngine]:
        engines: list[FakeEngine] = []

        def load(ref: Any, notice: Any) -> FakeEngine:
            engines.append(FakeEngine(ref, Behaviour(pass_requests=2)))
            return engines[-1]

        monkeypatch.setattr("tuneboard.cli.evaluate._engine_factory", lambda args: load)
        given = ["--model", "model", "--adapter", "a=a", "--include-path", str(world.TASKS), "--db", str(DB), "--quiet"]
        assert main(["evaluate", *given, *argv]) == 0
        return engines

    return run


def order(engine: FakeEngine) -> list[Any]:
    return [(work.candidate, work.arguments) for work in engine.computed if work.group >= 0]


def test_repeats_ask_the_same_in_another_order(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    engines = command("--tasks", "toy_legs,toy_mc2", "--repeat", "3", "--json")
    content = json.loads(capsys.readouterr().out)

    orders = [order(engine) for engine in engines]
    assert len(orders) == 3 and orders[0] != orders[1] != orders[2]
    assert {frozenset(map(repr, one)) for one in orders} == {frozenset(map(repr, orders[0]))}
    assert len(content["repeats"]) == 2 and content["repeats"][0]["run"] != content["run"]
    cells = queries.cells(DB, candidate="a", task="toy_legs")
    assert {cell.repeat for cell in cells} == {0, 1, 2}


def test_sampled_generations_differ_between_repeats(command: Any) -> None:
    engines = command("--tasks", "toy_sums", "--repeat", "3", "--gen-kwargs", "do_sample=true,temperature=1.0")

    seeds = [frozenset(work.seed for work in engine.computed if work.seed) for engine in engines]
    assert len(set(seeds)) == 3 and not seeds[0] & seeds[1]


def test_compare_shows_how_far_a_candidate_disagrees_with_itself(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command("--tasks", "toy_mc2", "--repeat", "2")
    capsys.readouterr()
    assert main(["compare", "base", "a", "--json", "--db", str(DB)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["candidates"][0]["tasks"]
    # The fake engine answers alike whatever the order; without repeats this is null.
    assert row["noise_floor"] == 0.0


def test_repeats_that_are_there_are_reused(command: Any) -> None:
    command("--tasks", "toy_legs", "--repeat", "2")
    engines = command("--tasks", "toy_legs", "--repeat", "3")
    assert len(engines) == 1
