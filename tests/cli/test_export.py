from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from tuneboard.cli.main import main
from tuneboard.records import MetricValue
from tuneboard.store import queries
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
    file = tmp_path / "s.parquet"
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


def test_a_link_stays_and_the_file_that_it_names_is_replaced(db: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link, dangling = tmp_path / "there" / "r.csv", tmp_path / "link", tmp_path / "dangling"
    file.write_text("older\n")
    link.symlink_to(file)
    dangling.symlink_to(Path("there") / "new.csv")
    for one, target in ((link, file), (dangling, tmp_path / "there" / "new.csv")):
        assert export(db, "results", "-o", one) == 0
        assert one.is_symlink() and target.read_text().startswith("candidate,")
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new.csv", "r.csv"]


def test_a_fifo_is_written_to_and_stays(db: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE, text=True)
    try:
        assert export(db, "results", "-o", fifo) == 0
        assert reader.communicate(timeout=30)[0].startswith("candidate,")
    finally:
        reader.kill()
    assert fifo.is_fifo()


def test_a_device_is_written_to_and_stays(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Through links of the test's own: should a mend go wrong, the machine keeps its devices.
    null, full = tmp_path / "null", tmp_path / "full"
    null.symlink_to("/dev/null")
    full.symlink_to("/dev/full")
    assert export(db, "results", "--format", "parquet", "-o", null, "--quiet") == 0
    assert export(db, "results", "-o", full) == 2
    err = capsys.readouterr().err
    assert "cannot write" in err and "No space left" in err and err.count("\n") == 1
    assert null.is_char_device() and full.is_char_device()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("not/there/r.csv", "cannot write 'not/there/r.csv': there is no folder 'not/there'; make it first"),
        ("", "'' given, expected the path of a file"),
        (".", "cannot write .: Is a directory; give another file"),
    ],
)
def test_a_place_that_no_file_can_have_is_one_line_and_makes_nothing(
    db: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
    said: str,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export(db, "results", "-o", output) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_numbers_that_are_none_become_null_in_every_json(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(db)
    first, *others = build.make_samples(build.make_candidate(), 3, task="odd")
    odd = dataclasses.replace(first, responses=((-math.inf, False), *first.responses[1:]))
    odd = dataclasses.replace(odd, metrics={"none": {"acc": math.nan, "pair": [math.inf, 1]}})
    metrics = (MetricValue("acc", "none", math.nan, math.nan, (-math.inf, math.inf), True),)
    result = build.make_result(task=build.make_task("odd"), samples=(odd, *others), n=3, metrics=metrics)
    store.commit(store.start_run(build.make_provenance()), result)

    def strict(*arguments: str) -> Any:
        capsys.readouterr()
        assert main([*arguments, "--db", str(db)]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    (row,) = strict("export", "results", "--task", "odd", "--format", "json")
    assert (row["value"], row["stderr"], row["ci_low"]) == (None, None, None)
    assert strict("export", "lm-eval", "--candidate", "base")["results"]["odd"]["acc,none"] is None
    assert strict("show", "odd", "--json")["cells"][0]["metrics"][0]["value"] is None
    capsys.readouterr()
    export(db, "samples", "--candidate", "base", "--task", "odd")
    line = json.loads(capsys.readouterr().out.splitlines()[0], parse_constant=pytest.fail)
    assert (line["metrics"], line["responses"][0]) == (
        {"acc": None, "pair": [None, 1], "acc_norm": None},
        [None, False],
    )
    export(db, "samples", "--candidate", "base", "--task", "odd", "--format", "csv")
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert json.loads(row["responses"], parse_constant=pytest.fail)[0] == [None, False]


def test_results_tell_how_they_were_asked(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(db)
    settings = {"limit": 4, "max_length": 512, "prompts": {"apply_chat_template": True}}
    run = store.start_run(dataclasses.replace(build.make_provenance(), settings=settings, seeds={"fewshot": 7}))
    store.commit(run, build.make_result(n=4, documents="first-4"))
    assert export(db, "results", "--task", "toy", "--format", "json") == 0
    row = json.loads(capsys.readouterr().out)[0]
    asked = ("n", "n_docs", "truncated", "limit", "seed", "chat_template", "max_length")
    assert [row[key] for key in asked] == [4, 10, 1, 4, 7, True, 512]


@pytest.mark.parametrize("what", [["samples"], ["results"], ["lm-eval"]])
def test_a_try_that_hides_a_wider_result_is_noted_unless_quiet(
    db: Path, capsys: pytest.CaptureFixture[str], what: list[str]
) -> None:
    store = Store(db)
    (run,) = (row.id for row in queries.runs(db))
    store.commit(store.start_run(build.make_provenance()), build.make_result(n=2, documents="first-2"))
    asked = [*what, "--candidate", "base", *(["--task", "toy"] if what != ["lm-eval"] else [])]
    assert export(db, *asked) == 0
    notes = capsys.readouterr().err.splitlines()
    assert notes[0] == (
        "tuneboard: note: base on toy: the newest result has 2 documents, "
        f"that of run {run} has 10; to see it, add --run {run}"
    )
    assert "requests cut to fit the context" in notes[1] and "1 on toy (2 documents)" in notes[1]
    assert export(db, *asked, "--quiet") == 0
    assert capsys.readouterr().err == ""
    assert export(db, *asked, "--run", run) == 0
    assert "newest" not in capsys.readouterr().err
