"""``tuneboard import``: folders that lm-eval itself wrote, and folders that something broke."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tuneboard.cli.main import main
from tuneboard.store import queries

TASKS = Path(__file__).parents[1] / "evaluate" / "tasks"
NAMES = ["toy_school", "toy_sums", "toy_words", "toy_tales", "toy_mc2"]


def lm_eval_run(out: Path, seed: int, limit: int | None = None, tasks: list[str] = NAMES) -> None:
    """Run lm-eval with its model that answers at random."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(out))
    here = Path.cwd()
    os.chdir(TASKS)
    try:
        manager = TaskManager(include_path=str(TASKS), include_defaults=False)
        results = simple_evaluate(
            model="dummy",
            model_args={"pretrained": "org/model"},
            tasks=tasks,
            task_manager=manager,
            limit=limit,
            bootstrap_iters=0,
            evaluation_tracker=tracker,
            random_seed=seed,
        )
    finally:
        os.chdir(here)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, of_task in samples.items():
        tracker.save_results_samples(task_name=task, samples=of_task)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders: two of the same tasks whole, one with a limit."""
    root = tmp_path_factory.mktemp("lm-eval")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(root / "cache"))
        lm_eval_run(root / "base", 1)
        lm_eval_run(root / "mine", 2)
        lm_eval_run(root / "short", 3, limit=3, tasks=["toy_legs"])
    return root


@pytest.fixture
def folder(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may break."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(written, tmp_path / "out")
    return Path("out")


def take(folder: Path, name: str, *arguments: str) -> int:
    return main(["import", str(folder), "--as", name, "--db", "x.duckdb", *arguments])


def one(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


def test_scores_are_those_that_lm_eval_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take(folder / "base", "base", "--json") == 0
    content = json.loads(capsys.readouterr().out)

    results = json.loads(one(folder / "base", "results_*.json").read_text())["results"]
    assert {cell["task"] for cell in content["cells"]} == set(results)
    for cell in content["cells"]:
        assert cell["status"] == "done"
        assert cell["metrics"] == {key: value for key, value in results[cell["task"]].items() if key in cell["metrics"]}
        assert cell["n"] == results[cell["task"]]["sample_len"]


def test_samples_hold_prompts_answers_and_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take(folder / "base", "base") == 0

    lines = one(folder / "base", "samples_toy_legs_*.jsonl").read_text().splitlines()
    found = list(queries.samples(Path("x.duckdb"), "base", "toy_legs"))
    for line, sample in zip(map(json.loads, lines), found, strict=True):
        assert (sample["doc_id"], sample["doc_hash"]) == (line["doc_id"], line["doc_hash"])
        assert sample["prompt"] == line["arguments"]["gen_args_0"]["arg_0"]
        assert sample["choices"] == [request["arg_1"] for request in line["arguments"].values()]
        assert [str(logprob) for logprob, _ in sample["responses"]] == [answer[0][0] for answer in line["resps"]]
        assert sample["metrics"]["acc"] == line["acc"]
    filters = {sample["filter"] for sample in queries.samples(Path("x.duckdb"), "base", "toy_sums")}
    assert filters == {"strict-match", "flexible-extract"}


def test_twin_documents_are_numbered_over_the_whole_file(folder: Path) -> None:
    path = one(folder / "base", "samples_toy_legs_*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[2::3]:
        line["doc_hash"] = lines[0]["doc_hash"]
    # lm-eval on several devices does not write documents in their order.
    path.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    assert take(folder / "base", "base") == 0

    found = list(queries.samples(Path("x.duckdb"), "base", "toy_legs"))
    twins = [sample["occurrence"] for sample in found if sample["doc_hash"] == lines[0]["doc_hash"]]
    assert twins == list(range(len(twins))) and len(twins) > 2


def test_clusters_come_from_the_column_that_the_task_names(folder: Path) -> None:
    results = one(folder / "base", "results_*.json")
    content = json.loads(results.read_text())
    content["configs"]["toy_legs"]["metadata"]["cluster"] = "answer"
    results.write_text(json.dumps(content))
    lines = one(folder / "base", "samples_toy_legs_*.jsonl").read_text().splitlines()
    assert take(folder / "base", "base") == 0

    found = {name: list(queries.samples(Path("x.duckdb"), "base", name)) for name in ("toy_legs", "toy_colours")}
    assert [one["cluster"] for one in found["toy_legs"]] == [str(json.loads(line)["doc"]["answer"]) for line in lines]
    assert {one["cluster"] for one in found["toy_colours"]} == {None}


def test_a_part_of_the_samples_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = one(folder / "base", "samples_toy_legs_*.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))

    assert take(folder / "base", "base") == 2
    assert "samples that results_" in capsys.readouterr().err and not Path("x.duckdb").exists()


def test_importing_twice_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take(folder / "base", "base") == 0
    before = queries.cells(Path("x.duckdb"))
    capsys.readouterr()
    assert take(folder / "base", "base") == 0

    assert "7 of 7 tasks there already" in capsys.readouterr().out
    assert queries.cells(Path("x.duckdb")) == before
    assert len(queries.runs(Path("x.duckdb"))) == 1


def test_other_scores_under_the_same_name_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take(folder / "base", "base") == 0
    results = one(folder / "base", "results_*.json")
    results.write_text(results.read_text().replace('"acc,none": 0.', '"acc,none": 0.0'))
    capsys.readouterr()
    assert take(folder / "base", "base") == 2
    assert "other scores" in capsys.readouterr().err


def test_imports_compare_and_gate_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take(folder / "base", "base") == take(folder / "mine", "mine") == 0
    capsys.readouterr()
    assert main(["compare", "base", "mine", "--json", "--db", "x.duckdb"]) == 0
    (candidate,) = json.loads(capsys.readouterr().out)["candidates"]

    rows = {(row["task"], row["metric"]): row for row in candidate["tasks"]}
    assert ("toy_school", "acc") in rows and rows["toy_quizzes", "acc"]["n"] == 17
    assert ("toy_words", "bleu") in rows and ("toy_tales", "word_perplexity") in rows
    assert candidate["applied"] is None
    Path("p.yaml").write_text("candidate: mine\nrules: [{rule: not_regress, tasks: toy_school}]\n")
    assert main(["gate", "p.yaml", "--db", "x.duckdb"]) in (0, 1, 3)


def test_another_number_of_documents_is_refused_with_the_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert take(folder / "base", "base") == take(folder / "short", "short") == 0
    capsys.readouterr()
    assert main(["compare", "base", "short", "--db", "x.duckdb"]) == 2
    assert "the task's config differs in documents" in capsys.readouterr().err


def test_tasks_without_samples_are_left_out_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one(folder / "base", "samples_toy_sums_*").unlink()
    assert take(folder / "base", "base") == 0
    assert "toy_sums" in capsys.readouterr().err
    assert "toy_sums" not in {cell.task for cell in queries.cells(Path("x.duckdb"))}


def spoil(folder: Path, what: str) -> Path:
    """Break a folder; returns what is then given to the command."""
    base = folder / "base"
    samples, results = one(base, "samples_toy_legs_*.jsonl"), one(base, "results_*.json")
    lines = samples.read_text().splitlines()
    if what == "torn line":
        samples.write_text("\n".join([*lines[:2], lines[2][:50]]))
    elif what == "twice":
        samples.write_text("\n".join(lines + lines[:1]))
    elif what == "old format":
        samples.write_text("\n".join(json.dumps({"doc_id": 0, "acc": 1.0}) for _ in lines))
    elif what == "empty":
        samples.write_text("")
    elif what == "not lm-eval's":
        results.write_text("{}")
    elif what == "broken results":
        results.write_text(results.read_text()[:100])
    elif what == "no score":
        samples.write_text("\n".join(line.replace('"acc": ', '"cca": ') for line in lines))
    elif what == "no samples":
        for path in base.rglob("samples_*"):
            path.unlink()
    elif what == "two models":
        return folder
    elif what == "nothing":
        results.unlink()
    return base


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("torn line", "line 3 is not JSON"),
        ("twice", "line 13: document 0 stands twice"),
        ("old format", "has no doc_hash"),
        ("empty", "is empty"),
        ("not lm-eval's", "has no 'results'"),
        ("broken results", "cannot be read"),
        ("no score", "has no score acc"),
        ("no samples", "--log_samples"),
        ("two models", "results of 3 models"),
        ("nothing", "holds no results_*.json"),
    ],
)
def test_a_broken_folder_is_one_clear_line_and_leaves_no_trace(
    folder: Path, capsys: pytest.CaptureFixture[str], what: str, said: str
) -> None:
    assert take(spoil(folder, what), "base") == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
    assert not Path("x.duckdb").exists()


def test_a_folder_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take(Path("nowhere"), "base") == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
