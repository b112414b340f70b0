"""``tuneboard baseline``: a file that stands in for a base, is compact, and cannot be edited unseen."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.cli.main import main
from tuneboard.records import MetricValue
from tuneboard.store.baselines import load_baseline
from tuneboard.store.pairs import load_scores
from tuneboard.store.writes import Store

world = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("scored.py"))))
FILE = Path("results/baselines/main.json")
POLICY = "candidate: mine\nmargins: {old: 0.05}\nrules: [{rule: not_regress, tasks: old}]\n"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    Path("policy.yaml").write_text(POLICY)
    world.fill(Path("x.duckdb"), "base", "mine", "good")
    return Path("x.duckdb")


def run(*arguments: object, db: Path = Path("x.duckdb")) -> int:
    return main([*map(str, arguments), "--db", str(db)])


def bless(*arguments: str) -> int:
    return run("baseline", "bless", "base", "--as", "main", *arguments)


def rules(capsys: pytest.CaptureFixture[str], *arguments: object, **places: Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run("gate", "policy.yaml", *arguments, "--json", **places)
    return code, json.loads(capsys.readouterr().out)


def test_a_gate_says_the_same_with_the_baseline_as_with_the_base(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bless() == 0
    elsewhere = Path("y.duckdb")
    world.fill(elsewhere, "mine", "good")

    for candidate, code in (("mine", 1), ("good", 0)):
        _, first = rules(capsys, "--candidate", candidate)
        found = rules(capsys, "--candidate", candidate, "--base", "baseline:main", db=elsewhere)
        assert found[0] == code
        assert found[1]["rules"] == first["rules"]
        assert (found[1]["base"], found[1]["warnings"]) == ("baseline:main", [])
    assert rules(capsys, "--base", FILE, db=elsewhere)[0] == 1


def test_compare_says_the_same_with_the_baseline_as_with_the_base(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bless() == 0
    elsewhere = Path("y.duckdb")
    world.fill(elsewhere, "mine", "good")
    capsys.readouterr()
    found = []
    for base, where in (("base", db), ("baseline:main", elsewhere), (str(FILE), elsewhere)):
        assert run("compare", base, "mine", "good", "--flips", 1, "--json", db=where) == 0
        out, err = capsys.readouterr()
        assert err == ""
        found.append(json.loads(out))

    first, *others = found
    for other in others:
        assert other["base"] == "baseline:main"
        assert other["ranks"] == [_renamed(one) for one in first["ranks"]]
        for mine, theirs in zip(other["candidates"], first["candidates"], strict=True):
            assert (mine["tasks"], mine["forgetting"]) == (theirs["tasks"], theirs["forgetting"])
            assert [flip["candidate_answer"] for flip in mine["flips"]] == [
                flip["candidate_answer"] for flip in theirs["flips"]
            ]


def _renamed(ranked: dict[str, Any]) -> dict[str, Any]:
    ranks = {"baseline:main" if name == "base" else name: rank for name, rank in ranked["ranks"].items()}
    return {**ranked, "ranks": ranks}


def test_baselines_are_listed_by_show_too(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "baselines") == 0
    assert "no baselines" in capsys.readouterr().out
    assert bless() == 0
    FILE.with_name("old.json").write_text("{}")
    capsys.readouterr()
    assert run("show", "baselines", "--json") == 0
    main_row, old = json.loads(capsys.readouterr().out)["baselines"]
    assert (main_row["name"], main_row["candidate"], main_row["samples"], main_row["status"]) == (
        *("main", "base", 400, "good"),
    )
    assert (old["name"], old["candidate"]) == ("old", None) and "is no baseline" in old["status"]


def test_flips_against_a_baseline_show_the_candidate_alone(db: Path) -> None:
    assert bless() == 0
    assert run("gate", "policy.yaml", "--base", "baseline:main", "--junit", "j.xml") == 1
    assert "→ candidate: A" in Path("j.xml").read_text()


def test_every_kind_of_score_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    db, build = Path("x.duckdb"), world.build
    kinds: dict[str, Any] = {"acc": 1.0, "acc_norm": 1 / 3, "bleu": ["a\u2028b", "c\ud800"], "nan": float("nan")}
    metrics = tuple(MetricValue(name, "none", 0.5, None, None, name != "bleu") for name in kinds)
    results = []
    for name in ("base", "mine"):
        samples = list(build.make_samples(world.candidate(name), 9))
        # Documents with gaps between them, one of which failed.
        samples = [replace(s, metrics={"none": kinds}) for s in samples if s.document.doc_id not in (3, 4)]
        samples[-1] = replace(samples[-1], status="failed", reason="no", metrics={}, responses=(None,) * 4)
        results.append(build.make_result(world.candidate(name), samples=tuple(samples), metrics=metrics, n=6, failed=1))
    store = Store(db)
    store.commit_all(store.start_run(build.make_provenance()), results)
    assert bless() == 0

    stored = load_scores(db, "base", ["mine"])
    blessed = load_scores(db, "baseline:main", ["mine"], baseline=load_baseline("main"))

    (a,), (b,) = stored.tasks, blessed.tasks
    assert a.doc_ids.tolist() == b.doc_ids.tolist() == [0, 1, 2, 5, 6, 7]
    assert a.metrics.keys() == b.metrics.keys()
    for name, metric in a.metrics.items():
        assert str(metric.values.tolist()) == str(b.metrics[name].values.tolist())
        assert metric.details == b.metrics[name].details


def test_blessing_again_changes_nothing_until_results_change(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bless() == 0
    text, at = FILE.read_text(), FILE.stat().st_mtime_ns
    capsys.readouterr()
    assert bless() == 0
    assert "unchanged" in capsys.readouterr().out
    assert (FILE.read_text(), FILE.stat().st_mtime_ns) == (text, at)

    assert run("baseline", "bless", "good", "--as", "main") == 0
    assert FILE.read_text() != text


def test_a_baseline_is_small_with_a_line_per_task(db: Path) -> None:
    assert bless() == 0
    lines = FILE.read_text().splitlines()
    assert sum('"ref"' in line for line in lines) == 2
    # A score of 0 or 1 takes a character; the rest is what tells one task from another.
    assert FILE.stat().st_size < 2 * (200 + 1000)


def test_an_edited_baseline_is_refused(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bless() == 0
    FILE.write_text(FILE.read_text().replace('"scores":"1111', '"scores":"0111'))
    capsys.readouterr()

    for command in (("gate", "policy.yaml", "--base", "baseline:main"), ("baseline", "show", "main")):
        assert run(*command) == 2
        out, err = capsys.readouterr()
        assert out == "" and "was edited after it was blessed" in err and err.count("\n") == 1
    assert run("baseline", "show") == 2
    assert "was edited" in capsys.readouterr().out
    assert bless() == 0
    assert run("baseline", "show", "main") == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "x"}', '{"schema": 99}'])
def test_what_is_no_baseline_is_one_clear_line(db: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    FILE.parent.mkdir(parents=True)
    FILE.write_text(text)
    assert run("gate", "policy.yaml", "--base", "baseline:main") == 2
    _, err = capsys.readouterr()
    assert str(FILE) in err and err.count("\n") == 1


def test_a_stale_baseline_is_warned_about(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bless() == 0
    store = Store(db)
    run_id = store.start_run(world.build.make_provenance())
    newer = world.build.make_task("old", num_fewshot=5, n_docs=200)
    store.commit(run_id, world.scored(world.candidate("base"), "old", 0, 0, ref=newer))

    code, found = rules(capsys, "--base", "baseline:main")

    (warning,) = found["warnings"]
    assert code == 1 and "stale: prompts or data have changed since on old" in warning
    assert run("compare", "baseline:main", "mine") == 0
    assert "warning: baseline 'main' is stale" in capsys.readouterr().err
    assert run("gate", "policy.yaml", "--base", "baseline:main", "--markdown", "m.md") == 1
    assert "is stale" in Path("m.md").read_text() and "warning: baseline 'main' is stale" in capsys.readouterr().err
    assert run("baseline", "show") == 0
    assert "is stale" in capsys.readouterr().out
    assert run("rename", "base", "old-base") == 0
    Store(db).register(world.build.make_candidate("base", "other weights"))
    assert "other weights" in rules(capsys, "--base", "baseline:main")[1]["warnings"][0]


def test_newer_results_of_the_same_name_make_it_stale(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bless() == 0
    content = json.loads(FILE.read_text())
    store = Store(db)
    run_id = store.start_run(world.build.make_provenance())
    again = world.scored(world.candidate("base"), "old", 3, 0)
    store.commit(run_id, replace(again, key=replace(again.key, dtype="bfloat16")))

    # Blessed within the same second as the new result: what is older by the clock is what counts.
    assert content["blessed"].endswith("Z")
    assert "newer results on old" in rules(capsys, "--base", "baseline:main")[1]["warnings"][0]


def test_another_prompt_than_the_baselines_is_refused_with_the_reason(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bless() == 0
    db = Path("y.duckdb")
    store = Store(db)
    run_id = store.start_run(world.build.make_provenance())
    ref = world.build.make_task("old", n_docs=200)
    ref = replace(ref, fingerprint="other", config={**ref.config, "doc_to_text": "other"})
    store.commit(run_id, world.scored(world.candidate("mine"), "old", 0, 0, ref=ref))

    code, found = rules(capsys, "--base", "baseline:main", db=db)

    assert (code, found["verdict"]) == (2, "invalid")
    assert "the task's config differs in doc_to_text" in " ".join(found["reasons"])


def test_a_suite_narrows_what_is_blessed(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text("description: only the old\ntasks: [old]\n")
    capsys.readouterr()
    assert bless("--suite", str(suite), "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["written"], content["tasks"], content["samples"]) == (True, 1, 200)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bless"], "bless needs a candidate"),
        (["bless", "bsae"], "unknown candidate 'bsae'; did you mean base"),
        (["bless", "base", "--suite", "core"], "'base' has no result to bless on the tasks that were asked for"),
        (["bless", "base", "--as", "../x"], "cannot name a file"),
        (["show", "main", "--as", "x"], "belong to"),
        (["show", "none"], "unknown baseline 'none'"),
    ],
)
def test_bad_requests_are_one_line_and_exit_2(
    db: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    capsys.readouterr()
    assert run("baseline", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_unfinished_results_are_not_blessed(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(db)
    task = world.build.make_task("third")
    failed = world.build.make_result(world.candidate("base"), task, status="failed", samples=(), n=0)
    store.commit(store.start_run(world.build.make_provenance()), failed)
    assert bless() == 2
    assert "on third is failed" in capsys.readouterr().err and not FILE.exists()
