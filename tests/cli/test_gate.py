"""``tuneboard gate``: exit codes, and outputs that agree because one record makes them all."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from lxml import etree

from tuneboard.cli.main import main
from tuneboard.gates import Cost
from tuneboard.store.costs import keep_costs
from tuneboard.store.writes import Store

world = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("scored.py"))))
XSD = Path(__file__).parents[1] / "report" / "junit.xsd"

POLICY = """\
name: ship
candidate: mine
margins: {old: 0.05, new: 0.05}
rules:
  - {rule: not_regress, tasks: guards}
  - {rule: improve, tasks: targets}
"""
#: Every key that the contract names, for the verdict and for a rule.
CONTRACT = ("schema", "verdict", "exit_code", "policy", "base", "candidate", "rules", "reasons")
RULE = (
    *("task", "metric", "rule", "margin", "verdict"),
    *("filter", "role", "n", "base", "candidate", "delta", "ci", "test", "p", "p_adjusted", "bound"),
    *("higher_is_better", "fixed", "broke", "mde", "noise_floor", "status", "n_needed", "declined"),
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("gate") / "x.duckdb"
    world.fill(db)
    return db


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def gate(db: Path, *arguments: object, policy: str = POLICY) -> int:
    Path("policy.yaml").write_text(policy)
    return main(["gate", "policy.yaml", *map(str, arguments), "--db", str(db)])


def outputs(db: Path, capsys: pytest.CaptureFixture[str], *arguments: object, policy: str = POLICY) -> dict[str, Any]:
    """Run a gate with every output and return what each of them says."""
    files = ["--junit", "j.xml", "--markdown", "m.md", "--json-file", "g.json"]
    code = gate(db, *files, *arguments, policy=policy)
    text = capsys.readouterr().out
    junit = etree.parse("j.xml")
    etree.XMLSchema(etree.parse(str(XSD))).assertValid(junit)
    return {
        "code": code,
        "text": text,
        "json": json.loads(Path("g.json").read_text()),
        "junit": ET.parse("j.xml").getroot(),
        "markdown": Path("m.md").read_text(),
    }


def agree(found: dict[str, Any]) -> str:
    """Check that all outputs say the same, and return what."""
    content = found["json"]
    verdict, code = content["verdict"], content["exit_code"]
    assert found["code"] == code
    line = found["text"].splitlines()[0]
    assert line.startswith(f"{verdict.upper()}  ") and line.endswith(f"(exit {code})")
    assert line in found["markdown"]
    said = {one.get("name"): one.get("value") for one in found["junit"].iter("property")}
    assert (said["verdict"], said["exit_code"]) == (verdict, str(code))
    tags = {"fail": "failure", "invalid": "error", "inconclusive": "skipped"}
    cases = found["junit"].findall("testsuite/testcase")
    if content["rules"]:
        outcomes = [next((k for k, tag in tags.items() if case.find(tag) is not None), "pass") for case in cases]
        assert outcomes == [rule["verdict"] for rule in content["rules"]]
    icons = {"fail": "❌", "invalid": "⚠️", "inconclusive": "❔", "pass": "✅"}
    for outcome, icon in icons.items():
        count = sum(rule["verdict"] == outcome for rule in content["rules"])
        assert found["markdown"].count(f"| {icon} |") == count
    for reason in content["reasons"]:
        assert reason in found["text"]
    return str(verdict)


@pytest.mark.parametrize(
    ("candidate", "verdict", "code"), [("mine", "fail", 1), ("good", "pass", 0), ("vague", "inconclusive", 3)]
)
def test_all_outputs_agree(
    db: Path, capsys: pytest.CaptureFixture[str], candidate: str, verdict: str, code: int
) -> None:
    found = outputs(db, capsys, "--candidate", candidate)

    assert agree(found) == verdict
    assert found["code"] == code
    assert set(CONTRACT) <= set(found["json"])
    for rule in found["json"]["rules"]:
        assert set(RULE) <= set(rule)


def test_a_regression_shows_what_broke(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = outputs(db, capsys)

    guard, target = found["json"]["rules"]
    assert (guard["rule"], guard["task"], guard["verdict"]) == ("not_regress", "old", "fail")
    assert (target["rule"], target["task"], target["verdict"]) == ("improve", "new", "pass")
    assert guard["bound"] < guard["delta"] == pytest.approx(-39 / 200)
    broken, passed = found["junit"].findall("testsuite/testcase")
    assert "→ target:" in broken.findtext("system-out") and "→ target:" not in passed.findtext("system-out")
    assert "Samples that changed: not_regress old acc" in found["markdown"]


def test_a_candidate_against_itself_passes_or_is_inconclusive(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guards = "candidate: base\nmargins: {old: 0.05}\nrules: [{rule: not_regress, tasks: guards}]\n"
    found = outputs(db, capsys, policy=guards)
    assert agree(found) == "pass"
    assert found["json"]["warnings"] == ["'base' is held against itself: no rule can find a difference"]
    tight = outputs(db, capsys, policy=guards.replace("0.05", "0.001"))
    assert agree(tight) == "inconclusive" and tight["code"] == 3


@pytest.mark.parametrize(("choice", "code"), [("pass", 0), ("warn", 0), ("fail", 1)])
def test_inconclusive_is_mapped_by_option(db: Path, capsys: pytest.CaptureFixture[str], choice: str, code: int) -> None:
    files = ["--junit", "j.xml"]
    assert gate(db, "--candidate", "vague", "--on-inconclusive", choice, *files) == code
    tags = [child.tag for case in ET.parse("j.xml").iter("testcase") for child in case]
    assert ("failure" in tags) is (choice == "fail")
    assert f"(exit {code})" in capsys.readouterr().out.splitlines()[0]


def test_incompatible_results_are_an_invalid_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "y.duckdb"
    store = world.fill(db, "base")
    ref = world.build.make_task("old", num_fewshot=5, n_docs=200)
    run = store.start_run(world.build.make_provenance())
    store.commit(run, world.scored(world.candidate("mine"), "old", 0, 0, ref=ref))

    found = outputs(db, capsys, policy="candidate: mine\nrules: [{rule: not_regress, tasks: old}]\n")

    assert agree(found) == "invalid" and found["code"] == 2
    assert "few-shot examples" in " ".join(found["json"]["reasons"])


def test_an_adapter_that_was_not_applied_is_invalid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "y.duckdb"
    store = world.fill(db, "base")
    run = store.start_run(world.build.make_provenance())
    task = world.build.make_task("old", n_docs=200)
    said = "adapter 'mine' was not applied"
    bad = world.build.make_result(world.candidate("mine"), task, status="invalid", reason=said, samples=(), n=0)
    store.commit(run, bad)

    found = outputs(db, capsys, policy="candidate: mine\nrules: [{rule: not_regress, tasks: old}]\n")

    assert agree(found) == "invalid" and said in found["text"]


def test_a_base_without_results_is_invalid_in_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "y.duckdb"
    world.fill(db, "mine")
    Store(db).register(world.candidate("base"))

    found = outputs(db, capsys)

    assert agree(found) == "invalid" and found["json"]["rules"] == []
    assert "no result of 'base'" in found["text"]
    assert found["junit"].find(".//error") is not None


def test_json_goes_to_stdout_alone(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(db, "--json", "--json-file", "g.json") == 1
    printed, written = json.loads(capsys.readouterr().out), json.loads(Path("g.json").read_text())
    assert printed == written and printed["verdict"] == "fail"


def test_the_step_summary_is_appended_to(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert gate(db, "--markdown", "m.md") == 1

    assert summary.read_text().startswith("before\n<!-- tuneboard-gate:ship -->")
    assert Path("m.md").read_text().splitlines()[1:5] == summary.read_text().splitlines()[2:6]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    capsys.readouterr()
    assert gate(db) == 2
    out, err = capsys.readouterr()
    assert out.startswith("FAIL") and "GITHUB_STEP_SUMMARY" in err


def test_bad_policies_give_all_their_errors_at_once(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = "candidate: mien\nalfa: 0.1\nmargins: {old: 2.0}\nrules:\n  - {rule: not_regress, tasks: odl}\n"
    assert gate(db, policy=bad) == 2
    out, err = capsys.readouterr()

    assert out == "" and err.count("\n") == 1
    for said in ("mien", "alfa", "margin 2", "odl"):
        assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gate", "quikc"], "unknown policy 'quikc'; did you mean quick"),
        (["gate", "nowhere.yaml"], "no policy file at nowhere.yaml"),
        (["gate", "policy.yaml", "--base", "baseline:none"], "none"),
        (["gate", "policy.yaml", "--candidate", "x.json"], "x.json is a baseline"),
        (["gate", "policy.yaml", "--candidate", "nope"], "tuneboard: error: unknown candidate 'nope'; see"),
        (["gate", "policy.yaml", "--run", "never"], "unknown run 'never'"),
        (["gate", "policy.yaml", "--on-inconclusive", "maybe"], "invalid choice: 'maybe'"),
    ],
)
def test_bad_requests_are_one_line_and_exit_2(
    db: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    Path("policy.yaml").write_text(POLICY)
    assert main([*arguments, "--db", str(db)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_a_cost_rule_compares_what_was_measured(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = "candidate: good\nrules:\n  - {rule: tokens_per_s, value: 0.9}\n  - {rule: peak_memory, value: 1.1}\n"
    found = outputs(db, capsys, policy=cost)
    speed, memory = found["json"]["rules"]
    assert (speed["verdict"], speed["base_cost"]) == ("pass", pytest.approx(200 / 3))
    assert memory["verdict"] == "invalid" and "not measured" in memory["reason"]
    assert agree(found) == "invalid"


COSTS = "candidate: good\nrules:\n  - {rule: latency_p95, value: 1.2}\n  - {rule: peak_memory, value: 1.1}\n"


def keep(db: Path, requests: str, machine: str, **figures: tuple[float, float]) -> None:
    weights = {name: world.candidate(name).fingerprint for name in figures}
    found = {weights[name]: Cost(100.0, *pair, machine) for name, pair in figures.items()}
    keep_costs(db, requests, found)


def test_latency_and_memory_are_those_that_were_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "y.duckdb"
    world.fill(db, "base", "good")
    missing = outputs(db, capsys, policy=COSTS)
    for rule in missing["json"]["rules"]:
        assert rule["verdict"] == "invalid"
        assert "of the base was not measured; a policy with a section 'evaluate' measures" in rule["reason"]

    keep(db, "a", "box", base=(1.0, 4.0), good=(1.5, 4.1))
    keep(db, "b", "box", base=(1.0, 4.0), good=(1.1, 4.1))
    # Of other requests, or on another machine, there is nothing to compare these with.
    keep(db, "c", "box", base=(9.0, 9.0))
    keep(db, "b", "bar", good=(9.0, 9.0))
    found = outputs(db, capsys, policy=COSTS)

    latency, memory = found["json"]["rules"]
    assert (latency["base_cost"], latency["candidate_cost"], latency["verdict"]) == (1.0, 1.1, "pass")
    assert (memory["base_cost"], memory["candidate_cost"], memory["verdict"]) == (4.0, 4.1, "pass")
    assert agree(found) == "pass"


def test_what_was_kept_of_a_baselines_weights_counts_for_it(tmp_path: Path) -> None:
    db = tmp_path / "y.duckdb"
    world.fill(db, "base", "good")
    assert main(["baseline", "bless", "base", "--as", "main", "--db", str(db)]) == 0
    keep(db, "a", "box", base=(1.0, 4.0), good=(1.5, 4.1))
    assert gate(db, "--base", "baseline:main", policy=COSTS) == 1


def test_a_gate_on_stored_results_is_quick_and_loads_no_torch(db: Path) -> None:
    Path("policy.yaml").write_text(POLICY)
    program = (
        "import resource, sys\nfrom tuneboard.cli.main import main\n"
        f"code = main(['gate', 'policy.yaml', '--junit', 'j.xml', '--markdown', 'm.md', '--db', {str(db)!r}])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(code, used.ru_utime + used.ru_stime, sorted({'torch', 'transformers', 'lm_eval'} & set(sys.modules)))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    code, seconds, heavy = done.stdout.splitlines()[-1].split(maxsplit=2)

    assert (code, heavy) == ("1", "[]"), done.stderr
    # Processor time, whatever else this machine is busy with.
    assert float(seconds) < 1.5


def test_help_loads_neither_numbers_nor_the_database(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tuneboard.cli.main import main\n"
        "for name in ('gate', 'baseline', 'import'):\n    main([name, '--help'])\n"
        "print(sorted({'numpy', 'scipy', 'duckdb', 'yaml', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
