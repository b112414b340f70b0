from __future__ import annotations

import csv
import dataclasses
import io
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from tuneboard.cli.main import main
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """One multiple-choice task, and one generated task with two filters, texts that are hard to write and a failure."""
    db = tmp_path / "x.duckdb"
    store = Store(db)
    run = store.start_run(build.make_provenance())
    store.commit(run, build.make_result())
    samples = []
    for sample in build.make_samples(build.make_candidate(), 3, task="gen"):
        exact = {"exact_match": float(sample.document.doc_id)}
        text = 'line one,\nline "two" ' + ("\ud83d" if sample.document.doc_id else "ü")
        samples.append(
            dataclasses.replace(
                sample,
                responses=(text,),
                request_hashes=sample.request_hashes[:1],
                metrics={"strict": exact, "flexible": exact | {"bleu": ["pair", "of texts"]}},
                filtered={"strict": ["42"]},
            )
        )
    samples[0] = dataclasses.replace(samples[0], responses=(None,), status="failed", reason="no memory", metrics={})
    store.commit(run, build.make_result(task=build.make_task("gen"), samples=tuple(samples), n=2, failed=1))
    return db


def export(db: Path, *arguments: object) -> int:
    return main(["export", *map(str, arguments), "--db", str(db)])


def test_samples_as_json_lines_follow_the_contract(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(db, "samples", "--candidate", "base", "--task", "toy") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 10
    contract = ["candidate", "task", "doc_id", "doc_hash", "prompt_hash", "filter", "status", "target"]
    assert {*contract, "responses", "metrics"} <= set(lines[0])
    sample = build.make_result().samples[3]
    assert (lines[3]["doc_id"], lines[3]["doc_hash"], lines[3]["target"]) == (3, sample.document.doc_hash, "3")
    assert lines[3]["responses"] == [list(response) for response in sample.responses]
    assert lines[3]["metrics"] == {"acc": 1.0, "acc_norm": 0.0}
    assert "prompt" not in lines[3]


def test_generated_samples_have_a_line_per_filter_and_exact_texts(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(db, "samples", "--candidate", "base", "--task", "gen", "--format", "jsonl", "--prompts")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["doc_id"], line["filter"]) for line in lines] == [
        (i, name) for i in range(3) for name in ("strict", "flexible")
    ]
    assert lines[0]["metrics"] == {"exact_match": None}
    assert (lines[0]["status"], lines[0]["reason"], lines[0]["responses"]) == ("failed", "no memory", [None])
    assert lines[2]["responses"] == ['line one,\nline "two" \ud83d']
    assert lines[3]["metrics"] == {"exact_match": 1.0, "bleu": ["pair", "of texts"]}
    assert (lines[2]["filtered"], lines[3]["filtered"]) == (["42"], None)
    assert lines[2]["prompt"].startswith("gen: question 1")


def test_samples_as_csv_have_a_column_per_metric(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(db, "samples", "--candidate", "base", "--task", "gen", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 6
    assert [row["exact_match"] for row in rows] == ["", "", "1.0", "1.0", "2.0", "2.0"]
    assert [row["bleu"] for row in rows][2:4] == ["", '["pair", "of texts"]']
    assert json.loads(rows[2]["responses"]) == ['line one,\nline "two" \ud83d']


def test_samples_as_parquet_are_typed(db: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "s.parquet"
    assert export(db, "samples", "--candidate", "base", "--task", "gen", "--format", "parquet", "-o", file) == 0
    table = pq.read_table(file)
    assert str(table.schema.field("exact_match").type) == "double"
    assert str(table.schema.field("doc_id").type) == "int64"
    assert table.column("exact_match").to_pylist() == [None, None, 1.0, 1.0, 2.0, 2.0]
    assert json.loads(table.column("responses").to_pylist()[0]) == [None]


def test_only_one_filter_where_one_is_named(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(db, "samples", "--candidate", "base", "--task", "gen", "--filter", "strict")
    assert {json.loads(line)["filter"] for line in capsys.readouterr().out.splitlines()} == {"strict"}


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_results_have_a_row_per_metric(db: Path, tmp_path: Path, format: str) -> None:
    file = tmp_path / f"r.{format}"
    assert export(db, "results", "--format", format, "-o", file, "--task", "toy") == 0
    if format == "csv":
        rows = list(csv.DictReader(file.open()))
    elif format == "json":
        rows = json.loads(file.read_text())
    else:
        rows = pq.read_table(file).to_pylist()
    assert [(row["candidate"], row["metric"], float(row["value"])) for row in rows] == [
        ("base", "acc", 0.4),
        ("base", "acc_norm", 0.5),
    ]


def test_lm_evals_layout_is_printed_or_written(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(db, "lm-eval", "--candidate", "base")
    printed = json.loads(capsys.readouterr().out)
    assert printed["results"]["toy"]["acc,none"] == 0.4
    export(db, "lm-eval", "--candidate", "base", "-o", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["samples", "--task", "toy"], "export samples needs --candidate NAME; see: tuneboard show models"),
        (["samples", "--candidate", "base"], "export samples needs --task NAME; see: tuneboard show tasks"),
        (["lm-eval"], "needs --candidate"),
        (["samples", "--candidate", "base", "--task", "tox"], "unknown task 'tox'; did you mean toy"),
        (["samples", "--candidate", "bas", "--task", "toy"], "unknown candidate 'bas'; did you mean base"),
        (["samples", "--candidate", "base", "--task", "toy", "--run", "r"], "unknown run 'r'"),
        (
            ["samples", "--candidate", "base", "--task", "toy", "--format", "xml"],
            "--format jsonl or csv or parquet",
        ),
        (["results", "--format", "jsonl"], "give --format csv or json or parquet"),
        (["results", "--filter", "x"], "--filter and --prompts belong to: tuneboard export samples"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert export(db, *arguments, "-o", tmp_path / "out") == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_is_one_line(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(db, "results", "-o", db / "below" / "a-file.csv") == 2
    assert "cannot write" in capsys.readouterr().err


def test_an_export_that_breaks_off_leaves_the_older_file(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneboard.store import samples

    file = tmp_path / "s.jsonl"
    file.write_text("older\n")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(samples, "PAGE_DOCS", 2)
    monkeypatch.setattr(samples, "_records", _break_off)
    with pytest.raises(RuntimeError):
        export(db, "samples", "--candidate", "base", "--task", "toy", "-o", file)
    assert file.read_text() == "older\n"
    assert sorted(tmp_path.iterdir()) == before


def _break_off(cell: object, names: object, row: tuple[int, ...], scores: object) -> list[dict[str, int]]:
    if row[0] > 2:
        raise RuntimeError("killed")
    return [{"doc_id": row[0]}]
