"""A gate that evaluates batch by batch: what it asks, when it stops, what it leaves in the database."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneboard.compare import compare
from tuneboard.config import Suite, SuiteTask
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.engines.protocol import BASE, Work
from tuneboard.evaluate import EvaluateRequest, GateEvaluation, Hooks, evaluate, evaluate_for_gate
from tuneboard.gates import EvaluatePlan, Policy, Rule
from tuneboard.records import Response, fingerprint
from tuneboard.store import queries
from tuneboard.store.blessed import narrowed
from tuneboard.store.blessing import bless
from tuneboard.store.pairs import load_scores
from tuneboard.suites import sample_ids

N = 400
TASK = """\
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/{name}.jsonl}}
task: {name}
output_type: generate_until
test_split: test
doc_to_text: "{name}: {{{{question}}}}"
doc_to_target: "{{{{question}}}}"
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 8}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
GROUP = """\
group: counts
task: [counts_a, counts_b]
aggregate_metric_list:
  - {metric: exact_match, aggregation: mean, weight_by_size: true}
metadata: {version: 1.0}
"""


class Counting(FakeEngine):
    """Repeats the question; the base fails on a quarter of them, the adapter on those and ``harm`` of the others."""

    harm = 0.0

    def _respond(self, item: Work) -> Response:
        if item.kind != "generate_until":
            return super()._respond(item)
        question = item.arguments[0].rpartition(" ")[2]
        draw = int(fingerprint(question)[:8], 16) / 16**8
        return "no" if draw < 0.25 + (0.0 if item.candidate == BASE else self.harm) else question


@pytest.fixture
def gate(make_bench: Any, tmp_path: Path) -> Any:
    """Runs a gate on two tasks of 400 and 200 questions and their group."""
    folder = tmp_path / "counting"
    folder.mkdir()
    for name, n in (("counts_a", N), ("counts_b", N // 2)):
        rows = "".join(json.dumps({"question": f"{name}-{i}"}) + "\n" for i in range(n))
        (folder / f"{name}.jsonl").write_text(rows)
        (folder / f"{name}.yaml").write_text(TASK.format(folder=folder, name=name))
    (folder / "counts.yaml").write_text(GROUP)
    return Runner(make_bench("a"), folder)


class Runner:
    def __init__(self, bench: Any, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.engines: list[FakeEngine] = []

    def request(self, *tasks: str, **changes: Any) -> EvaluateRequest:
        suite = Suite("", "", tuple(SuiteTask(task, role="guard") for task in tasks))
        given = {"candidates": self.bench.candidates, "suite": suite, "db": self.bench.db}
        return EvaluateRequest(**(given | {"include_paths": (self.folder,)} | changes))

    def hooks(self, harm: float, listener: Any = None, behaviour: Behaviour | None = None) -> Hooks:
        self.engines = []

        def load(ref: Any, notice: Any) -> FakeEngine:
            engine = Counting(ref, behaviour)
            engine.harm = harm
            self.engines.append(engine)
            return engine

        return Hooks(load, listener or self.bench.ear)

    def __call__(self, *tasks: str, harm: float = 0.0, margin: float = 0.1, **hooks: Any) -> GateEvaluation:
        plan = EvaluatePlan(model="m", adapter="a")
        policy = Policy("p", "base", "a", (Rule("not_regress", margin=margin),), evaluate=plan)
        return evaluate_for_gate(self.request(*tasks), policy, self.hooks(harm, **hooks))

    @property
    def asked(self) -> int:
        return sum(work.kind == "generate_until" for engine in self.engines for work in engine.computed)


def test_a_large_drop_fails_early_and_what_was_asked_is_stored(gate: Any) -> None:
    done = gate("counts_a", harm=0.3)
    verdict = done.gate.judge()

    (rule,) = verdict.rules
    assert verdict.verdict == "fail" and rule.stop.early
    assert rule.stop.n < N / 2
    assert gate.asked == 2 * rule.stop.n
    assert done.asked == {"counts_a": rule.stop.n}
    cells = queries.cells(gate.bench.db, run=done.evaluation.run)
    assert {(cell.candidate, cell.n) for cell in cells} == {("base", rule.stop.n), ("a", rule.stop.n)}
    # In the order in which a suite with the same seed draws, so that evaluate finds the answers again.
    docs = [sample["doc_id"] for sample in queries.samples(gate.bench.db, "a", "counts_a")]
    assert docs == sample_ids("counts_a", N, rule.stop.n, 1234)
    assert not list(Path(f"{gate.bench.db}.journal").glob("*"))


def test_no_change_passes_early(gate: Any) -> None:
    done = gate("counts_a", harm=0.0)
    verdict = done.gate.judge()

    assert verdict.verdict == "pass"
    assert verdict.rules[0].stop.early and gate.asked < 2 * N


def test_what_was_stored_is_not_asked_again(gate: Any) -> None:
    first = gate("counts_a", harm=0.3).gate.judge()
    again = gate("counts_a", harm=0.3)

    assert gate.engines == [] and again.asked == {}
    assert again.gate.judge() == first
    request = gate.request("counts_a", suite=Suite("", "", (SuiteTask("counts_a", limit=200, sample_seed=1234),)))
    evaluate(request, gate.hooks(0.3))
    assert gate.asked == 2 * (200 - first.rules[0].stop.n)


def test_whole_results_need_no_gate(gate: Any) -> None:
    evaluate(gate.request("counts_a"), gate.hooks(0.3))
    done = gate("counts_a", harm=0.3)

    assert done.gate is None and gate.engines == []
    assert {cell.n for cell in queries.cells(gate.bench.db, run=done.evaluation.run)} == {N}


def test_an_interrupted_gate_goes_on_where_it_was(gate: Any) -> None:
    class Interrupting(type(gate.bench.ear)):  # type: ignore[misc]
        def advance(self, candidate: str, task: str, n: int = 1, tokens: int = 0) -> None:
            super().advance(candidate, task, n, tokens)
            if sum(self.counts.values()) == 40:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gate("counts_a", harm=0.3, listener=Interrupting())
    first = gate.asked
    done = gate("counts_a", harm=0.3)

    assert first >= 40
    assert gate.asked == 2 * done.gate.judge().rules[0].stop.n - 40
    assert not list(Path(f"{gate.bench.db}.journal").glob("*"))


def test_a_group_is_asked_across_its_tasks(gate: Any) -> None:
    done = gate("counts", harm=0.3)
    verdict = done.gate.judge()

    (rule,) = verdict.rules
    assert (rule.task, rule.verdict, rule.stop.n_full) == ("counts", "fail", N + N // 2)
    assert set(done.asked) == {"counts_a", "counts_b"}
    stored = Counter({cell.task: cell.n for cell in queries.cells(gate.bench.db, candidate="a")})
    assert stored["counts"] == stored["counts_a"] + stored["counts_b"] == rule.stop.n


def test_an_adapter_that_changes_nothing_ends_the_gate(gate: Any) -> None:
    done = gate("counts_a", behaviour=Behaviour(ignores_adapters=True))

    assert done.gate is None
    (cell,) = queries.cells(gate.bench.db, run=done.evaluation.run)
    assert cell.status == "invalid" and "was not applied" in (cell.reason or "")


def test_failed_samples_have_no_score(gate: Any) -> None:
    def fails(item: Work) -> bool:
        return item.kind == "generate_until" and item.arguments[0].endswith("7")

    done = gate("counts_a", harm=0.3, behaviour=Behaviour(fails=fails))

    assert done.gate.judge().verdict == "fail"
    (cell, _) = queries.cells(gate.bench.db, run=done.evaluation.run)
    assert cell.failed > 0 and cell.n + cell.failed == done.asked["counts_a"]


def test_a_group_of_a_baseline_is_judged_as_beside_the_base_and_the_candidate_alone_is_asked(
    gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beside = gate("counts", harm=0.3).gate.judge()
    base, mine = gate.bench.candidates
    evaluate(gate.request("counts", candidates=(base,), db=tmp_path / "base.duckdb"), gate.hooks(0.3))
    baseline, _ = bless(tmp_path / "base.duckdb", "base", "main")

    db, rule = tmp_path / "mine.duckdb", Rule("not_regress", margin=0.1)
    policy = Policy("p", baseline.label, "a", (rule,), evaluate=EvaluatePlan(model="m", adapter="a"))
    done = evaluate_for_gate(gate.request("counts", candidates=(mine,), db=db), policy, gate.hooks(0.3), baseline)
    assert gate.asked == beside.rules[0].stop.n

    known = narrowed(baseline, done.documents)
    scores = load_scores(db, baseline.label, ["a"], run=done.evaluation.run, baseline=known)
    assert compare(scores).candidates[0].refused == ()
    (found,) = done.gate.judge(compare(scores)).rules
    (same,) = beside.rules
    assert (replace(found, row=None), found.row.effect) == (replace(same, row=None), same.row.effect)
