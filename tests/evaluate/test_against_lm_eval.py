"""The same answers, scored here and by lm-eval's own ``simple_evaluate``: every metric is equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneboard.engines.fake import FakeEngine

TASKS = ("toy_school", "toy_mc2", "toy_sums", "toy_tales", "toy_words")


@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("candidate", ["base", "a"])
def test_every_metric_is_that_of_simple_evaluate(
    make_bench: Any, world: Any, monkeypatch: pytest.MonkeyPatch, candidate: str, limit: int | None
) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    from tuneboard.engines.lm_eval_model import EngineLM

    bench = make_bench("a")
    ours = bench(*TASKS, limit=limit)

    engine = FakeEngine(bench.candidates[0].model, bench.behaviour)
    engine.attach("a", bench.candidates[1].adapter)
    monkeypatch.chdir(world.TASKS)
    theirs = lm_eval.simple_evaluate(
        model=EngineLM(engine, "a" if candidate == "a" else ""),
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(world.TASKS), include_defaults=False),
        limit=limit,
        bootstrap_iters=0,
    )

    found = {
        (r.task.name, f"{m.metric},{m.filter}"): m.value
        for r in ours.results
        for m in r.metrics
        if r.candidate.name == candidate
    }
    expected = {
        (task, key): value
        for task, metrics in theirs["results"].items()
        for key, value in metrics.items()
        if "," in key and "_stderr" not in key and isinstance(value, float | int)
    }
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12)
    assert {(task, "acc,none") for task in ("toy_school", "toy_quizzes")} <= found.keys()
    assert {r.task.name: r.n for r in ours.results if (r.candidate.name, r.kind) == (candidate, "task")} == {
        task: sizes["effective"] for task, sizes in theirs["n-samples"].items()
    }


def test_samples_are_those_of_simple_evaluate(
    make_bench: Any, world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    from tuneboard.engines.lm_eval_model import EngineLM
    from tuneboard.store import queries

    bench = make_bench()
    bench("toy_quizzes", "toy_sums")
    monkeypatch.chdir(world.TASKS)
    theirs = lm_eval.simple_evaluate(
        model=EngineLM(FakeEngine(bench.candidates[0].model, bench.behaviour)),
        tasks=["toy_quizzes", "toy_sums"],
        task_manager=TaskManager(include_path=str(world.TASKS), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    for task, metrics in (("toy_legs", ["acc", "acc_norm"]), ("toy_colours", ["acc"]), ("toy_sums", ["exact_match"])):
        ours = {(s["doc_id"], s["filter"]): s for s in queries.samples(bench.db, "base", task)}
        assert len(ours) == len(theirs["samples"][task])
        for sample in theirs["samples"][task]:
            mine = ours[sample["doc_id"], sample["filter"]]
            assert mine["doc_hash"] == sample["doc_hash"]
            assert mine["prompt_hash"] == sample["prompt_hash"]
            assert mine["target"] == str(sample["target"])
            assert mine["prompt"] == sample["arguments"][0][0]
            for metric in metrics:
                assert mine["metrics"][metric] == sample[metric]
