from __future__ import annotations

import json
import math
import os
import runpy
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.cli.main import main
from tuneboard.records import MetricValue
from tuneboard.store import queries
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Base and one adapter on a task and a group; the adapter's group failed."""
    db = tmp_path / "x.duckdb"
    store = Store(db)
    run = store.start_run(build.make_provenance())
    tuned = build.make_candidate("tuned", adapter="a1")
    group = build.make_task("toys")
    store.commit(run, build.make_result())
    store.commit(run, build.make_result(tuned))
    store.commit(run, build.make_result(task=group, kind="group", samples=(), members=("toy",)))
    store.commit(
        run, build.make_result(tuned, group, kind="group", samples=(), status="failed", metrics=(), reason="no")
    )
    store.finish_run(run, "done", 3.21)
    return db


def show(db: Path, *arguments: str) -> int:
    return main(["show", *arguments, "--db", str(db)])


def test_runs_are_listed_with_what_they_did(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(db, "runs") == 0
    header, _, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "started", "status", "seconds", "suite", "engine", "candidates", "cells"]
    assert "done" in line and "3.2" in line and "quick" in line
    assert "base, tuned" in line and "3 done" in line and "1 failed" in line


def test_a_run_that_never_ended_is_unfinished(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(db).start_run(build.make_provenance())
    show(db, "runs", "--json")
    assert [run["status"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["unfinished", "done"]


def test_models_are_listed_as_table_and_json(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(db, "models")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["base", "base"], ["tuned", "adapter"]]
    show(db, "models", "tun", "--json")
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == 1
    (model,) = content["models"]
    assert (model["name"], model["adapter"], model["type"], model["results"]) == ("tuned", "adapters/a1", "LORA", 2)


def test_a_candidate_shows_all_its_metrics_and_failures(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(db, "tuned")
    out = capsys.readouterr().out
    assert "adapters/a1" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["toy", "0", "10", "0", "acc", "none", "0.4000", "0.1500", "[0.1700,", "0.6900]", "done"] in rows
    assert any(row[:1] == ["toys"] and row[-2:] == ["failed:", "no"] for row in rows)
    show(db, "tuned", "--json")
    cells = {cell["task"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    assert cells["toys"]["status"] == "failed" and cells["toys"]["reason"] == "no" and cells["toys"]["kind"] == "group"
    assert cells["toy"]["metrics"][0] == {
        "metric": "acc",
        "filter": "none",
        "value": 0.4,
        "stderr": 0.15,
        "ci": [0.17, 0.69],
        "higher_is_better": True,
    }


def test_a_task_shows_its_candidates(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(db, "toy")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if "acc" in row] == ["base", "tuned"]


def test_a_run_shows_its_command_and_its_results(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(db, "runs", "--json")
    run = json.loads(capsys.readouterr().out)["runs"][0]["run"]
    show(db, run)
    out = capsys.readouterr().out
    assert "tuneboard evaluate --model models/tiny" in out
    assert "0.4000" in out
    show(db, run, "--json")
    content = json.loads(capsys.readouterr().out)
    assert (content["run"], content["seconds"], content["engine"]["device"]) == (run, 3.21, "cpu")
    assert len(content["cells"]) == 4


def test_suites_need_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(tmp_path / "none.duckdb", "suites", "--json") == 0
    assert {"core", "quick"} <= {suite["suite"] for suite in json.loads(capsys.readouterr().out)["suites"]}
    assert show(tmp_path / "none.duckdb", "core") == 0
    out = capsys.readouterr().out
    assert "core.yaml" in out and next(line.split() for line in out.splitlines() if line.startswith("mmlu"))[2] == "5"
    assert show(tmp_path / "none.duckdb", "quick", "--json") == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert {"hellaswag", "gsm8k"} <= {task["task"] for task in tasks} and all(task["limit"] for task in tasks)
    assert show(tmp_path / "none.duckdb", "hellaswag") == 2
    assert "no result of task 'hellaswag'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_policies_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(tmp_path / "none.duckdb", "policies", "--json") == 0
    policies = {row["policy"]: row for row in json.loads(capsys.readouterr().out)["policies"]}
    assert policies["quick"]["description"] and policies["quick"]["path"].endswith("quick.yaml")


def test_recipes_are_listed_and_shown_with_their_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(tmp_path / "none.duckdb", "recipes", "--json") == 0
    recipes = {row["recipe"]: row for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert recipes["qlora"]["method"] == "qlora" and recipes["qlora"]["description"]
    assert show(tmp_path / "none.duckdb", "lora") == 0
    text = capsys.readouterr().out
    assert text.startswith("# ") and "rank: 16" in text and "# the paper finds ranks" in text


@pytest.fixture
def trained(db: Path) -> str:
    from tuneboard.records import ModelRef
    from tuneboard.store.training import TrainingFigures, TrainingStart, TrainingStore

    fingerprint = build.make_candidate("tuned", adapter="a1").fingerprint
    data = {"sources": [], "steps": [], "leaks": [], "labels": {}, "mixture": {}, "train": 90, "validation": 10}
    begin = TrainingStart(
        "tuned", "f", "lora", "causal", ModelRef("models/tiny", sha256="w"), 0, {"x": 1}, data, {}, {"cores": 2}
    )
    figures = TrainingFigures(30, 3.0, 4.5, 9.0, 12345, 1.5, 3.0, 1.25, 20, 64, 640, 0.5, 0, ("few rows",))
    store = TrainingStore(db)
    run = store.start(begin)
    curve = [(step, step / 10, "validation_loss", 3 - step / 20) for step in range(0, 31, 10)]
    store.finish(run, fingerprint, Path("adapters/tuned"), figures, [*curve, (10, 1.0, "loss", 2.0)])
    return run


def test_trainings_are_listed_and_one_shows_its_losses(
    db: Path, trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(db, "trainings") == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.split() == [trained, "tuned", "done", "lora", "models/tiny", "30", "3.0", "1.25", "4.5"]
    assert show(db, trained) == 0
    out = capsys.readouterr().out
    assert "12,345" in out and "few rows" in out and "training examples" in out
    assert [line.split() for line in out.splitlines()[-4:]] == [
        ["0", "3", "-"],
        ["10", "2.5", "2"],
        ["20", "2", "-"],
        ["30", "1.5", "-"],
    ]
    assert show(db, trained, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["curve"]["loss"] == [[10, 2.0]] and content["recipe"] == {"x": 1}


def test_trainings_are_found_by_their_ids_and_by_their_candidates(
    db: Path, trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, found in ((trained[-4:], [trained]), ("TUNE", [trained]), ("ned", [trained]), ("lora", [])):
        assert show(db, "trainings", text, "--json") == 0
        assert [row["training"] for row in json.loads(capsys.readouterr().out)["trainings"]] == found, text


def test_a_candidate_names_the_training_that_made_it(
    db: Path, trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(db, "tuned", "--json")
    assert json.loads(capsys.readouterr().out)["training"] == trained
    show(db, "base", "--json")
    assert json.loads(capsys.readouterr().out)["training"] is None


def test_tasks_are_listed_with_their_results(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(db, "tasks", "TOY", "--json")
    tasks = {task["task"]: task for task in json.loads(capsys.readouterr().out)["tasks"]}
    told = {"source": None, "metric": None, "num_fewshot": 0, "size": 10}
    assert tasks["toy"] == {"task": "toy", "kind": "task", **told, "results": 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tunde"], "unknown name 'tunde'; did you mean tuned"),
        (["modles"], "did you mean models"),
        (["tuned", "x"], "'x' is one argument too many"),
    ],
)
def test_what_is_not_known_is_one_line_and_exit_code_2(
    db: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert show(db, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_a_missing_database_is_one_line_with_the_command_that_fills_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(tmp_path / "none.duckdb", "runs") == 2
    assert "run: tuneboard evaluate" in capsys.readouterr().err
    assert show(tmp_path / "none.duckdb", "tuned") == 2
    assert "there is no database at" in capsys.readouterr().err


@pytest.mark.alone
def test_show_answers_within_a_second_without_torch_or_pandas(db: Path) -> None:
    code = (
        "import sys; from tuneboard.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'lm_eval', 'pandas', 'pyarrow', 'numpy', 'rich'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else code)"
    )
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        command = [sys.executable, "-c", code, "show", "tuned", "--db", str(db)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
    print(f"show took {statistics.median(seconds):.2f} s (median of five)")
    assert statistics.median(seconds) < 1.0


def test_a_try_that_hides_a_wider_result_is_told_below_the_table(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(db)
    (whole,) = (row.id for row in queries.runs(db))
    store.commit(store.start_run(build.make_provenance()), build.make_result(n=2, documents="first-2"))
    said = (
        f"base on toy: the newest result has 2 documents, that of run {whole} has 10; to see it, add --run {whole}",
        "asked in different ways, documents: all for tuned; 2 (set first-) for base",
    )
    for name in ("base", "toy"):
        assert show(db, name) == 0
        out = capsys.readouterr().out
        assert "2 of 10" in out and said[0] in out and (said[1] in out) == (name == "toy")
        assert show(db, name, "--json") == 0
        assert said[0] in json.loads(capsys.readouterr().out)["notes"]
        assert show(db, name, "--run", whole) == 0
        out = capsys.readouterr().out
        assert "2 of 10" not in out and "newest" not in out


def test_a_run_goes_with_a_candidate_or_a_task_alone(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["runs"], "--run goes with the name of a candidate or a task, not with the list of runs"),
        (["tuend"], "unknown candidate or task 'tuend'; did you mean tuned"),
        (["core"], "unknown candidate or task 'core'"),
    ):
        assert show(db, *arguments, "--run", "x") == 2
        assert said in capsys.readouterr().err
    assert show(db, "tuned", "--run", "x") == 2
    assert "unknown run 'x'" in capsys.readouterr().err


def test_cut_requests_are_told_below_every_table_of_results(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = (row.id for row in queries.runs(db))
    for name, whose in (("tuned", "tuned"), ("toy", "base, tuned"), (run, "base, tuned")):
        show(db, name)
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith(f"{whose}: requests cut to fit the context: 1 on toy") for line in lines), name


def test_no_name_and_no_reason_steers_the_terminal(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(db)
    odd = build.make_candidate("o\x1b[2Jdd", adapter="a\x1b]0;title\x07")
    task = build.make_task("ta\x9bsk")
    run = store.start_run(build.make_provenance("tuneboard \x1b[31mevaluate"))
    store.commit(run, build.make_result(odd, task, samples=(), status="failed", metrics=(), reason="no\x1b[A\nsplit"))
    for arguments in (["models"], ["runs"], ["tasks", "ta"], [odd.name], [task.name], [run], ["models", "\x1b[1m"]):
        assert show(db, *arguments) == 0
        assert capsys.readouterr().out.replace("\n", "").isprintable(), arguments
    assert show(db, "\x1b[31mnone") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_is_not_a_number_is_said_in_words(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metric = MetricValue("acc", "none", math.nan, math.inf, (-math.inf, math.nan), True)
    store = Store(db)
    result = build.make_result(task=build.make_task("odd"), metrics=(metric,))
    store.commit(store.start_run(build.make_provenance()), result)
    show(db, "odd")
    assert "not a number  infinite  [minus infinite, not a number]" in capsys.readouterr().out
