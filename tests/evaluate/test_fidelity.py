"""``--check-engine``: how far an engine is from a reference and from itself, kept with the run and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneboard.cli.main import main
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.engines.protocol import Answer, Work
from tuneboard.errors import ModelError
from tuneboard.evaluate.fidelity import agreement
from tuneboard.report.fidelity import check_text
from tuneboard.store import queries

TASKS = "toy_mc1,toy_sums,toy_tales"


class Shaky(FakeEngine):
    """Answers like the fake, each time a little otherwise."""

    runs = 0

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        type(self).runs += 1
        for answer in super().run(work):
            found = answer.response
            if isinstance(found, tuple):
                found = (found[0] + 0.001 * type(self).runs, found[1])
            elif isinstance(found, str):
                found = f"{found} {type(self).runs}"
            yield replace(answer, response=found)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``evaluate`` with an engine and a reference; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    world.make_model(Path("model"))
    world.make_adapter(Path("a"))

    def run(*argv: str, engine: Any = FakeEngine, reference: Any = None) -> tuple[int, str, str]:
        fake = Behaviour(world.texts())
        monkeypatch.setattr("tuneboard.cli.evaluate._engine_factory", lambda args: lambda r, n: engine(r, fake))
        other = reference or (lambda r, n: FakeEngine(r, fake))
        monkeypatch.setattr("tuneboard.cli.evaluate._reference", lambda args: other)
        capsys.readouterr()
        given = ["--model", "model", "--adapter", "a=a", "--include-path", str(world.TASKS), "--db", "r.duckdb"]
        code = main(["evaluate", *given, *argv])
        return (code, *capsys.readouterr())

    return run


def check(out: str) -> dict[str, Any]:
    (found,) = json.loads(out)["engine"]["checks"]
    return dict(found)


def test_an_engine_like_its_reference_differs_in_nothing(command: Any) -> None:
    code, out, err = command("--tasks", TASKS, "--check-engine", "20", "--json")
    assert code == 0, err
    found = check(out)
    assert (found["requests"], found["failed"], found["reason"]) == (20, 0, None)
    assert found["reference"] == "fake 1 on memory in float32"
    for agreed in (found["difference"], found["noise"]):
        assert (agreed["largest"], agreed["mean"]) == (0.0, 0.0)
        assert agreed["logprobs"] + agreed["texts"] == 20
        assert agreed["texts"] == agreed["same_texts"] > 0
        assert agreed["same_greedy"] == agreed["logprobs"] > 0


def test_the_check_is_kept_with_the_run_and_shown(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command("--tasks", "toy_mc1", "--check-engine", "8")
    lines = [line for line in out.splitlines() if "engine checked" in line or "noise floor" in line]
    assert code == 0 and len(lines) == 2
    assert lines[0].startswith("engine checked on 8 requests against fake 1 on memory in float32: 8 log-probabilities")
    (run,) = queries.runs(Path("r.duckdb"))
    assert run.engine["checks"][0]["requests"] == 8
    assert main(["show", run.id, "--db", "r.duckdb"]) == 0
    shown = capsys.readouterr().out
    assert all(line in shown for line in lines) and "'requests'" not in shown
    assert main(["show", run.id, "--db", "r.duckdb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"]["checks"] == run.engine["checks"]


def test_noise_and_difference_are_measured(command: Any) -> None:
    found = check(command("--tasks", "toy_mc1,toy_sums", "--check-engine", "12", "--json", engine=Shaky)[1])
    assert found["noise"]["largest"] == pytest.approx(0.001)
    assert found["difference"]["largest"] >= 0.002
    assert found["noise"]["same_texts"] == found["difference"]["same_texts"] == 0 < found["noise"]["texts"]


def test_base_and_adapters_and_all_tasks_are_asked(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Work] = []

    class Ear(FakeEngine):
        def run(self, work: Sequence[Work]) -> Iterator[Answer]:
            asked.extend(work)
            return super().run(work)

    fake = Behaviour()
    command("--tasks", TASKS, "--check-engine", "6", reference=lambda r, n: Ear(r, fake))
    assert len(asked) == 6
    assert {work.candidate for work in asked} == {"", "a"}
    assert {work.kind for work in asked} == {"loglikelihood", "generate_until", "loglikelihood_rolling"}


def test_a_check_of_results_that_are_there_asks_the_engine_all_the_same(command: Any) -> None:
    command("--tasks", "toy_mc1")
    code, out, _ = command("--tasks", "toy_mc1", "--check-engine", "--json")
    assert code == 0
    assert {cell["status"] for cell in json.loads(out)["cells"]} == {"reused"}
    assert check(out)["requests"] == 2 * 14  # all that there are


def test_sampled_texts_are_left_out(command: Any) -> None:
    settings = ["--gen-kwargs", "do_sample=true,temperature=1.0"]
    found = check(command("--tasks", "toy_sums", *settings, "--check-engine", "--json")[1])
    assert (found["requests"], found["noise"]["texts"]) == (0, 0)


def test_a_reference_that_cannot_be_loaded_is_a_reason_and_costs_no_result(command: Any) -> None:
    def refuse(ref: Any, notice: Any) -> Any:
        raise ModelError("does not fit into memory")

    code, out, _ = command("--tasks", "toy_mc1", "--check-engine", "4", "--json", reference=refuse)
    assert code == 0
    found = check(out)
    assert (found["reference"], found["difference"], found["reason"]) == (None, None, "does not fit into memory")
    assert found["noise"]["largest"] == 0.0
    assert "no reference (does not fit into memory)" in check_text({"checks": [found]})


def test_without_the_option_nothing_is_checked(command: Any) -> None:
    found = json.loads(command("--tasks", "toy_mc1", "--json")[1])
    assert "checks" not in found["engine"]


def test_what_cannot_be_compared_is_counted_and_infinities_are_not_made_numbers() -> None:
    ours = [(-1.0, True), None, float("nan"), (float("-inf"), False), (float("-inf"), False), "a", "b", -3.0]
    theirs = [(-1.5, True), (-1.0, True), -2.0, (float("-inf"), False), (-2.0, True), "a", "c", -3.25]
    found, failed = agreement(ours, theirs)
    assert failed == 2
    assert (found.logprobs, found.largest, found.texts, found.same_texts) == (4, float("inf"), 2, 1)
    finite, _ = agreement(ours[:1] + ours[-1:], theirs[:1] + theirs[-1:])
    assert (finite.largest, finite.mean, finite.same_greedy) == (0.5, 0.375, 2)
    assert "infinite" in check_text({"checks": [_facts(found)]})


def _facts(agreed: Any) -> dict[str, Any]:
    from dataclasses import asdict

    noise = json.loads(json.dumps(asdict(agreed)).replace("Infinity", "null"))
    return {"requests": 8, "failed": 2, "reference": "x", "difference": noise, "noise": noise, "reason": None}


def test_the_transformers_engine_agrees_with_itself(
    stories260k: Path, tiny_adapter: Any, world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", str(stories260k), "--adapter", f"a={tiny_adapter(stories260k)}", "--limit", "3", "--json"]
    given += ["--include-path", str(world.TASKS), "--db", str(tmp_path / "r.duckdb"), "--device", "cpu"]
    code = main(
        [
            "evaluate",
            *given,
            "--engine",
            "transformers",
            "--tasks",
            "toy_mc1,toy_sums",
            "--check-engine",
            "8",
            "--gen-kwargs",
            "max_gen_toks=8",
        ]
    )
    assert code == 0
    found = check(capsys.readouterr().out)
    assert found["reference"].startswith("transformers 5")
    assert found["difference"]["largest"] < 1e-4 and found["noise"]["largest"] < 1e-4
    assert found["difference"]["same_texts"] == found["difference"]["texts"] > 0
