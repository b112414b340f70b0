import json
from pathlib import Path

import pytest

from tuneboard import sandbox
from tuneboard.cli.main import main
from tuneboard.demo import AdapterSettings, TinySettings, keeping


@pytest.fixture(autouse=True)
def taste(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Real training, but only a taste of it unless the test is a long one, in a folder of its own."""
    if "accept" not in request.keywords:
        shrink(monkeypatch, seed=1)
    monkeypatch.chdir(tmp_path)


def shrink(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    adapters = (
        ("facts", AdapterSettings(("demo_knowledge",), rank=4, steps=2)),
        ("maths", AdapterSettings(("demo_math",), rank=2, steps=2)),
    )
    small = TinySettings(hidden_size=64, layers=2, steps=4, batch=2, block=64, seed=seed, adapters=adapters)
    monkeypatch.setattr(keeping, "TinySettings", lambda: small)


def cells(out: str) -> list[dict[str, object]]:
    return list(json.loads(out)["cells"])


def test_demo_evaluates_base_and_adapters_and_reuses_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    first = capsys.readouterr()
    assert {cell["candidate"] for cell in cells(first.out)} == {"tiny-base", "tiny-facts", "tiny-maths"}
    assert {cell["status"] for cell in cells(first.out)} == {"done"}
    assert "training the base model" in first.err
    assert Path("results/tuneboard.duckdb").is_file()

    assert main(["demo"]) == 0
    second = capsys.readouterr()
    assert "demo_knowledge" in second.out
    assert "reused from the database" in second.out
    assert "training" not in second.err
    next_commands = [line[line.index("tuneboard ") :].split()[1:] for line in second.err.splitlines()[-3:]]
    assert [words[0] for words in next_commands] == ["evaluate", "show", "export"]
    assert main(next_commands[1]) == 0
    assert main(next_commands[2]) == 0


def test_names_that_other_weights_have_are_left_to_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["demo", "--json"]) == 0
    shrink(monkeypatch, seed=2)
    capsys.readouterr()
    assert main(["demo", "--json"]) == 0
    said = capsys.readouterr()
    names = sorted({str(cell["candidate"]) for cell in cells(said.out)})
    assert [name.rpartition("-")[0] for name in names] == ["tiny-base", "tiny-facts", "tiny-maths"]
    assert names[0] in said.err.splitlines()[-2], "the next command names what was evaluated"


def test_without_isolation_the_code_task_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: sandbox.Isolation(None, "nothing is installed"))
    assert main(["demo", "--json", "--db", "elsewhere/x.duckdb"]) == 0
    said = capsys.readouterr()
    tasks = {cell["task"] for cell in cells(said.out)}
    assert "demo_math" in tasks
    assert "demo_code" not in tasks
    assert "demo_code is left out" in said.err
    assert said.err.splitlines()[-1].endswith("--db elsewhere/x.duckdb")
    assert Path("elsewhere/demo").is_dir()


def test_quiet_demo_writes_nothing_but_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    assert cells(said.out)
    assert said.err == ""


@pytest.mark.accept
def test_shipped_demo_learns_and_its_adapters_change_something(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    scores = {
        (cell["candidate"], cell["task"]): cell["metrics"][0]["value"]  # type: ignore[index]
        for cell in cells(capsys.readouterr().out)
    }
    assert scores["tiny-base", "demo_continuation"] > 0.6, "chance is 0.25"
    assert scores["tiny-facts", "demo_truth"] > scores["tiny-base", "demo_truth"] + 0.1
    assert scores["tiny-maths", "demo_code"] != scores["tiny-base", "demo_code"]
