from __future__ import annotations

import csv
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.cli.main import main
from tuneboard.records import MetricValue
from tuneboard.store.database import writing
from tuneboard.store.writes import Store

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))

SETTINGS = {"tasks": [{"task": "new", "role": "target"}, {"task": "old", "role": "guard"}]}
#: What each candidate has right of two tasks with 200 documents: samples fixed and broken, out of 100 right.
CHANGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "new": {"base": (0, 0), "mine": (60, 5), "other": (2, 2)},
    "old": {"base": (0, 0), "mine": (1, 30), "other": (3, 3)},
}
#: Every key that the contract names.
CONTRACT = (
    *("task", "metric", "filter", "role", "n", "base", "candidate", "delta", "ci", "test", "p", "p_adjusted", "bound"),
    *("higher_is_better", "fixed", "broke", "mde", "noise_floor", "status", "n_needed"),
)


def scored(candidate: Any, task: str, up: int, down: int) -> Any:
    correct = [0.0] * down + [1.0] * (100 - down + up) + [0.0] * (100 - up)
    samples = tuple(
        replace(sample, metrics={"none": {"acc": mark}})
        for sample, mark in zip(build.make_samples(candidate, 200, task=task), correct, strict=True)
    )
    metric = MetricValue("acc", "none", sum(correct) / 200, None, None, True)
    ref = build.make_task(task, n_docs=200)
    return build.make_result(candidate, ref, n=200, samples=samples, metrics=(metric,))


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a candidate that gained and forgot, and one that changed next to nothing."""
    db = tmp_path_factory.mktemp("compare") / "x.duckdb"
    store = Store(db)
    run = store.start_run(replace(build.make_provenance(), settings=SETTINGS))
    names = {"base": None, "mine": "a1", "other": "a2"}
    store.commit_all(
        run,
        [
            scored(build.make_candidate(name, adapter=adapter), task, *CHANGES[task][name])
            for name, adapter in names.items()
            for task in CHANGES
        ],
    )
    return db


def compare(db: Path, *arguments: object) -> int:
    return main(["compare", *map(str, arguments), "--db", str(db)])


def test_json_follows_the_contract(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(db, "base", "mine", "--json") == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["schema"], found["base"]) == (1, "base")
    (candidate,) = found["candidates"]
    assert (candidate["name"], candidate["applied"]) == ("mine", True)
    new, old = candidate["tasks"]
    assert set(CONTRACT) <= set(new)
    assert (new["task"], new["role"], new["n"], new["fixed"], new["broke"]) == ("new", "target", 200, 60, 5)
    assert (new["status"], old["status"]) == ("improved", "regressed")
    assert new["delta"] == pytest.approx(new["candidate"] - new["base"]) == pytest.approx(55 / 200)
    assert new["ci"][0] < new["bound"] < new["delta"] < new["ci"][1]
    assert candidate["forgetting"]["target_gain"] == pytest.approx(55 / 200)
    assert candidate["forgetting"]["guard_loss"] == pytest.approx(29 / 200)
    assert candidate["forgetting"]["lost"] == ["old"]
    assert "flips" not in candidate


def test_the_table_of_one_candidate_has_every_figure(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(db, "base", "mine") == 0
    out = capsys.readouterr().out

    (line,) = (line for line in out.splitlines() if line.startswith("new (target)"))
    assert "0.5000 ±" in line and "0.7750 ±" in line and "+0.2750" in line and "▲ improved" in line
    assert "▼ regressed" in out and "Forgetting" in out
    assert "McNemar exact, Tango interval (scores are 0 or 1): new, old" in out


def test_several_candidates_share_one_table_with_places(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(db, "base", "mine", "other") == 0
    out = capsys.readouterr().out

    (line,) = (line for line in out.splitlines() if line.startswith("new (target)"))
    assert line.split()[-10:] == [
        *("0.5000", "#2"),
        *("0.7750", "+0.2750", "▲", "#1"),
        *("0.5000", "+0.0000", "≈", "#2"),
    ]
    (front,) = (line for line in out.splitlines() if line.startswith("other  "))
    assert front.split() == ["other", "+0.0000", "0.0000", "1", "-", "-"]


def test_csv_has_a_row_per_candidate_task_and_metric(db: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    assert compare(db, "base", "mine", "other", "--format", "csv", "-o", file) == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))

    assert [(row["candidate_name"], row["task"]) for row in rows] == [
        (name, task) for name in ("mine", "other") for task in ("new", "old")
    ]
    assert float(rows[0]["ci_low"]) < float(rows[0]["delta"]) < float(rows[0]["ci_high"])


def test_markdown_is_a_table_that_breaks_on_no_name(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(db, "base", "mine", "--format", "markdown", "--flips", "1") == 0
    out = capsys.readouterr().out

    table = [line for line in out.splitlines() if line.startswith("|")][:4]
    assert len({line.count("|") for line in table}) == 1
    assert "### Forgetting" in out
    assert "```text" in out and "→ target:" in out


def test_flips_show_prompt_target_and_both_answers(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(db, "base", "mine", "--flips", "2", "--json") == 0
    flips = json.loads(capsys.readouterr().out)["candidates"][0]["flips"]

    assert [(flip["task"], flip["direction"]) for flip in flips] == [
        *[("new", "broke")] * 2,
        *[("new", "fixed")] * 2,
        *[("old", "broke")] * 2,
        ("old", "fixed"),
    ]
    assert flips[0]["prompt"].startswith("new: question 0") and flips[0]["target"] == "A"
    assert compare(db, "base", "mine", "--flips", "1") == 0
    assert "new 0: broke by mine" in capsys.readouterr().out


def test_a_suite_narrows_and_names_the_roles(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text("description: only the old\ntasks:\n  - task: old\n    role: target\n")

    assert compare(db, "base", "mine", "--suite", suite, "--json") == 0
    tasks = json.loads(capsys.readouterr().out)["candidates"][0]["tasks"]

    assert [(task["task"], task["role"]) for task in tasks] == [("old", "target")]


def test_nothing_valid_exits_2_and_still_prints_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "x.duckdb"
    store = Store(db)
    run = store.start_run(build.make_provenance())
    base, mine = build.make_candidate(), build.make_candidate("mine", adapter="a1")
    store.commit(run, scored(base, "new", 0, 0))
    reason = "adapter 'mine' was not applied"
    store.commit(run, build.make_result(mine, build.make_task("new"), status="invalid", reason=reason, samples=(), n=0))

    for format in ("json", "table"):
        assert compare(db, "base", "mine", "--format", format) == 2
        out, err = capsys.readouterr()
        assert reason in out and reason in err and err.count("\n") == 1
    assert compare(db, "base", "mine", "--json") == 2
    candidate = json.loads(capsys.readouterr().out)["candidates"][0]
    assert (candidate["applied"], candidate["tasks"]) == (False, [])
    assert candidate["forgetting"]["target_gain"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["base", "mien"], "unknown candidate 'mien'; did you mean mine"),
        (["base"], "required: CANDIDATE"),
        (["base", "mine", "--json", "--format", "csv"], "--json and --format csv exclude each other"),
        (["base", "mine", "--format", "csv", "--flips", "1"], "--flips does not fit into CSV"),
        (["base", "mine", "--format", "xml"], "invalid choice: 'xml'"),
        (["baseline:nope", "mine"], "unknown baseline 'nope'"),
        (["base", "x.json"], "x.json is a baseline; expected a candidate"),
        (["base", "mine", "--suite", "nope"], "unknown suite 'nope'"),
        (["base", "mine", "--run", "never"], "unknown run 'never'"),
        (["base", "mine", "--flips", "0"], "expected a whole number of at least 1"),
    ],
)
def test_bad_requests_are_one_line_and_exit_2(
    db: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert compare(db, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


#: All of ``core``: task, documents, scores that are not 0 or 1.
CORE = (
    *((f"mmlu_subject_{i}", 246 + (i < 20), False) for i in range(57)),
    *(("hellaswag", 10042, False), ("gsm8k", 1319, False), ("humaneval", 164, False)),
    *(("truthfulqa_mc1", 817, False), ("truthfulqa_mc2", 817, True), ("truthfulqa_gen", 817, False)),
)
_METRICS = {"truthfulqa_gen": ["bleu_acc", "bleu_max", "bleu_diff", "rouge1_acc", "rouge1_max", "rouge1_diff"]}


def fill_core(db: Path, names: list[str]) -> None:
    """Store all of ``core`` for many candidates: cells by the store, samples by SQL, in a tenth of the time."""
    store = Store(db)
    run = store.start_run(build.make_provenance())
    candidates = [build.make_candidate(name, adapter=None if name == "base" else name) for name in names]
    for candidate in candidates:
        results = []
        for task, n, _ in CORE:
            metrics = tuple(
                MetricValue(metric, "none", 0.0, None, None, True) for metric in _METRICS.get(task, ["acc", "acc_norm"])
            )
            results.append(
                build.make_result(candidate, build.make_task(task, n_docs=n), n=n, samples=(), metrics=metrics)
            )
        members = tuple(task for task, *_ in CORE[:57])
        group = replace(build.make_task("mmlu", n_docs=14042), output_type="group")
        metrics = (MetricValue("acc", "none", 0.0, None, None, True),)
        results.append(
            build.make_result(candidate, group, kind="group", n=14042, samples=(), metrics=metrics, members=members)
        )
        store.commit_all(run, results)
    with writing(db) as connection:
        connection.execute(
            """INSERT INTO scores
               SELECT m.cell_id, doc, m.filter, m.metric,
                      -- A tenth of the scores is each candidate's own, the rest is shared.
                      CASE WHEN metric ~ 'max|diff' OR cells.task = 'truthfulqa_mc2' THEN h % 1000 / 1000
                           ELSE (h % 5 < 3)::INT END, NULL
               FROM (SELECT *, hash(task, metric, doc,
                                    CASE WHEN hash(cell_id, doc) % 10 = 0 THEN cell_id ELSE '' END) AS h
                     FROM (SELECT m.*, cells.task, unnest(range(cells.n)) AS doc
                           FROM metrics m JOIN cells ON cells.id = m.cell_id WHERE cells.kind = 'task')) AS m
               JOIN cells ON cells.id = m.cell_id"""
        )
        connection.execute(
            """UPDATE metrics SET value = found.mean
               FROM (SELECT cell_id, metric, avg(value) AS mean FROM scores GROUP BY ALL) AS found
               WHERE found.cell_id = metrics.cell_id AND found.metric = metrics.metric"""
        )
        connection.execute(
            """UPDATE metrics SET value = whole.mean
               FROM (SELECT groups.id, avg(scores.value) AS mean
                     FROM cells AS groups JOIN cells AS parts
                          ON parts.candidate_fingerprint = groups.candidate_fingerprint
                             AND list_contains(groups.members, parts.task)
                     JOIN scores ON scores.cell_id = parts.id AND metric = 'acc'
                     WHERE groups.kind = 'group' GROUP BY groups.id) AS whole
               WHERE whole.id = metrics.cell_id"""
        )


@pytest.mark.accept
@pytest.mark.alone
def test_nine_candidates_on_all_of_core_take_under_2_seconds_and_500_mb_without_torch(tmp_path: Path) -> None:
    db, names = tmp_path / "core.duckdb", ["base", *(f"c{i}" for i in range(9))]
    fill_core(db, names)
    program = (
        "import re, resource, sys\nfrom pathlib import Path\nfrom tuneboard.cli.main import main\n"
        f"code = main(['compare', *{names!r}, '--db', {str(db)!r}, '--json', '-o', {str(tmp_path / 'out.json')!r}])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        # Not ru_maxrss, which also counts the process that this one was forked from.
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())\n"
        "print(code, used.ru_utime + used.ru_stime, int(peak[1]) / 1024, "
        "sorted({'torch', 'transformers', 'lm_eval', 'pandas'} & set(sys.modules)))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    code, seconds, megabytes, heavy = done.stdout.split(maxsplit=3)

    found = json.loads((tmp_path / "out.json").read_text())
    assert (code, heavy.strip()) == ("0", "[]"), done.stderr
    assert [len(candidate["tasks"]) for candidate in found["candidates"]] == [2 * 62 + 6 + 1] * 9
    assert {row["n"] for row in found["candidates"][0]["tasks"] if row["task"] == "mmlu"} == {14042}
    # Processor time: what the clock shows on a machine with nothing else to do, whatever this one is busy with.
    assert float(seconds) < 2
    assert float(megabytes) < 500


def test_help_loads_neither_numbers_nor_the_database(tmp_path: Path) -> None:
    program = (
        "import sys\nimport tuneboard.compare\nfrom tuneboard.cli.main import main\nmain(['compare', '--help'])\n"
        "print(sorted({'numpy', 'scipy', 'duckdb', 'yaml', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines()[-1] == "[]", done.stderr
