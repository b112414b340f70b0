"""Gates that are fed batch by batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from tuneboard import stats
from tuneboard.compare import Comparison
from tuneboard.gates import Batch, EvaluatePlan, Policy, Rule, SequentialGate, Stream, Verdict
from tuneboard.suites import sample_ids

Ask = Callable[..., Policy]
Answers = Mapping[str, tuple[np.ndarray, np.ndarray]]


def stream(task: str, n: int, **changes: object) -> Stream:
    return Stream(
        **{  # type: ignore[arg-type]
            "task": task,
            "metric": "acc",
            "filter": "none",
            "items": tuple((task, doc) for doc in range(n)),
            **changes,
        }
    )


def answers(n: int, changed: float, drop: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """0/1 scores of base and candidate."""
    drawn = np.random.default_rng(seed).random(n)
    base = (np.random.default_rng(seed + 1).random(n) < 0.5).astype(float)
    mine = base.copy()
    loss, win = (changed + drop) / 2, (changed - drop) / 2
    base[drawn < loss], mine[drawn < loss] = 1.0, 0.0
    gained = (drawn >= loss) & (drawn < loss + win)
    base[gained], mine[gained] = 0.0, 1.0
    return base, mine


def answer(batch: Batch, scores: Answers) -> tuple[list[float | None], list[float | None]]:
    sides: list[list[float | None]] = []
    for side in (0, 1):
        found = [float(scores[task][side][doc]) for task, doc in batch.items]
        sides.append([None if score != score else score for score in found])
    return sides[0], sides[1]


def drive(gate: SequentialGate, scores: Answers, batches: list[Batch] | None = None) -> Verdict:
    while (batch := gate.next_batch()) is not None:
        if batches is not None:
            batches.append(batch)
        gate.feed(batch, *answer(batch, scores))
    return gate.judge()


def test_a_clear_drop_fails_before_all_samples_are_asked(policy: Ask) -> None:
    gate = SequentialGate(policy(), [stream("gsm8k", 1319)])
    batches: list[Batch] = []

    verdict = drive(gate, {"gsm8k": answers(1319, 0.11, 0.06, 5)}, batches)

    (rule,) = verdict.rules
    assert (verdict.verdict, verdict.exit_code) == ("fail", 1)
    assert rule.stop is not None and rule.stop.early and rule.stop.n < 700 and rule.stop.n_full == 1319
    assert "e-value" in rule.stop.method and "e-value" in rule.reason
    assert rule.row is not None and rule.row.n == rule.stop.n == sum(len(batch.items) for batch in batches)
    assert rule.p is not None and rule.p <= 0.05
    assert all(len(batch.items) <= 32 for batch in batches)


def test_no_change_passes_early_where_there_are_many_samples(policy: Ask) -> None:
    gate = SequentialGate(policy(margins={"mmlu": 0.02}), [stream("mmlu", 14_042)])

    verdict = drive(gate, {"mmlu": answers(14_042, 0.11, 0.0, 3)})

    (rule,) = verdict.rules
    assert verdict.verdict == "pass"
    assert rule.stop is not None and rule.stop.early and "look" in rule.stop.method
    # The bound is that of the look, and so agrees with the verdict.
    assert rule.bound is not None and rule.bound > -0.02
    assert rule.row is not None and rule.bound < rule.row.bound


def test_what_stays_open_is_asked_in_full_and_inconclusive(policy: Ask) -> None:
    gate = SequentialGate(policy(margins={"humaneval": 0.01}), [stream("humaneval", 164)])

    verdict = drive(gate, {"humaneval": answers(164, 0.11, 0.0, 8)})

    (rule,) = verdict.rules
    assert (verdict.verdict, verdict.exit_code) == ("inconclusive", 3)
    assert rule.stop is not None and not rule.stop.early and rule.stop.n == 164
    assert "asked all 164 samples" in rule.reason


def test_the_gate_goes_as_its_simulation_does(policy: Ask) -> None:
    n, schedule = 640, stats.Schedule(640)
    for seed in range(40):
        base, mine = answers(n, 0.12, (0.0, 0.03, 0.06)[seed % 3], seed)
        gate = SequentialGate(policy(margins={"toy": 0.03}), [stream("toy", n)])
        order: list[int] = []
        batches: list[Batch] = []
        verdict = drive(gate, {"toy": (base, mine)}, batches)
        order = list(range(n))
        random.Random("1234:toy").shuffle(order)
        wins, losses = ((side > other)[order].cumsum() for side, other in ((mine, base), (base, mine)))
        ends = np.array(schedule.ends) - 1

        run = stats.run_flips("not_regress", 0.03, schedule, wins[None, ends], losses[None, ends])

        expected = "pass" if run.passed[0] else "fail" if run.failed[0] else "inconclusive"
        assert (verdict.verdict, sum(len(one.items) for one in batches)) == (expected, run.seen[0])


def test_single_tasks_are_asked_in_the_order_of_seeded_suites(policy: Ask) -> None:
    gate = SequentialGate(policy(), [stream("toy", 200)], seed=20240)
    asked: list[int] = []
    for _ in range(3):
        batch = gate.next_batch()
        assert batch is not None
        asked += [doc for _, doc in batch.items]
        gate.feed(batch, [1.0, 0.0] * 16, [0.0, 1.0] * 16)

    # So that growing a suite's limit finds the same samples.
    assert sorted(asked) == sample_ids("toy", 200, 96, 20240)


def test_the_same_scores_give_the_same_verdict(policy: Ask) -> None:
    scores = {"a": answers(900, 0.11, 0.03, 1), "b": answers(500, 0.11, 0.0, 2)}
    runs = []
    for _ in range(2):
        batches: list[Batch] = []
        verdict = drive(SequentialGate(policy(), [stream("a", 900), stream("b", 500)]), scores, batches)
        runs.append(([batch.items for batch in batches], verdict.verdict, verdict.reasons))

    assert runs[0] == runs[1]


def test_the_plan_sets_batch_and_seed(policy: Ask) -> None:
    plan = EvaluatePlan("m", adapter="a", batch=8, seed=3)
    batch = SequentialGate(policy(evaluate=plan), [stream("toy", 100)]).next_batch()
    other = SequentialGate(policy(evaluate=EvaluatePlan("m", batch=8, seed=4)), [stream("toy", 100)]).next_batch()

    assert batch is not None and other is not None
    assert len(batch.items) == 8 and batch.items != other.items


def test_streams_take_turns_and_decided_ones_are_left_alone(policy: Ask) -> None:
    batches: list[Batch] = []
    scores = {"bad": answers(2000, 0.3, 0.2, 1), "same": answers(2000, 0.1, 0.0, 2)}

    verdict = drive(SequentialGate(policy(), [stream("bad", 2000), stream("same", 2000)]), scores, batches)

    assert [batch.stream.task for batch in batches[:4]] == ["bad", "same", "bad", "same"]
    asked = {name: sum(batch.stream.task == name for batch in batches) for name in scores}
    assert asked["bad"] < asked["same"]
    assert verdict.rules[0].verdict == "fail" and verdict.exit_code == 1


def test_with_several_guards_more_evidence_is_needed(policy: Ask) -> None:
    def asked(guards: int) -> int:
        streams = [stream("bad", 1319), *(stream(f"same{i}", 1319) for i in range(guards - 1))]
        scores = {one.task: answers(1319, 0.11, 0.0, 50 + at) for at, one in enumerate(streams)}
        scores["bad"] = answers(1319, 0.11, 0.05, 5)
        gate = SequentialGate(policy(), streams)
        drive(gate, scores)
        return gate.stops[(0, "bad", "acc", "none")].n

    assert asked(1) < asked(8)


def test_only_streams_that_a_rule_is_on_are_asked(policy: Ask) -> None:
    gate = SequentialGate(policy(Rule("not_regress", ("a",))), [stream("a", 64), stream("b", 64)])
    batches: list[Batch] = []
    drive(gate, {"a": answers(64, 0.1, 0.0, 1)}, batches)

    assert {batch.stream.task for batch in batches} == {"a"}


def test_a_group_is_one_stream_over_its_tasks(policy: Ask) -> None:
    items = tuple(("mmlu_a", doc) for doc in range(300)) + tuple(("mmlu_b", doc) for doc in range(200))
    group = stream("mmlu", 0, items=items, n_docs=14_042, role="guard")
    scores = {"mmlu_a": answers(300, 0.1, 0.0, 1), "mmlu_b": answers(200, 0.1, 0.0, 2)}
    batches: list[Batch] = []

    verdict = drive(SequentialGate(policy(Rule("not_regress", ("guards",))), [group]), scores, batches)

    assert {task for task, _ in batches[0].items} == {"mmlu_a", "mmlu_b"}
    (rule,) = verdict.rules
    assert rule.task == "mmlu" and rule.margin == 0.007
    assert rule.row is not None and rule.row.n_docs == 14_042 and rule.row.n == 500


def bounded(n: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    base = np.random.default_rng(seed).beta(2, 2, n)
    return base, np.clip(base + np.random.default_rng(seed + 1).normal(shift, 0.1, n), 0, 1)


@pytest.mark.parametrize(("shift", "verdict"), [(-0.08, "fail"), (0.0, "pass")])
def test_bounded_scores_are_decided_by_bets(policy: Ask, shift: float, verdict: str) -> None:
    gate = SequentialGate(policy(margins={"mc2": 0.03}), [stream("mc2", 817)])

    found = drive(gate, {"mc2": bounded(817, shift, 4)})

    (rule,) = found.rules
    assert found.verdict == verdict
    assert rule.stop is not None and rule.stop.early and rule.stop.method == "bets"
    assert rule.bound is not None and (rule.bound > -0.03) == (verdict == "pass")


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "fail"), (0.0, "pass")])
def test_where_lower_is_better_a_rise_fails(policy: Ask, shift: float, verdict: str) -> None:
    gate = SequentialGate(policy(margins={"brier": 0.04}), [stream("brier", 600, higher_is_better=False)])

    (rule,) = drive(gate, {"brier": bounded(600, shift, 4)}).rules

    assert rule.verdict == verdict
    assert rule.bound is not None and (rule.bound < 0.04) == (verdict == "pass")


@pytest.mark.parametrize(
    ("rule", "drop", "verdict"),
    [
        (Rule("improve", margin=0.03), -0.06, "pass"),
        (Rule("improve", margin=0.03), 0.06, "fail"),
        (Rule("equivalent", margin=0.04), 0.0, "pass"),
        (Rule("equivalent", margin=0.04), -0.08, "fail"),
        (Rule("at_least", value=0.4), 0.0, "pass"),
        (Rule("at_least", value=0.65), 0.0, "fail"),
    ],
)
def test_every_rule_can_stop_early(policy: Ask, rule: Rule, drop: float, verdict: str) -> None:
    gate = SequentialGate(policy(rule), [stream("toy", 3000)])

    (found,) = drive(gate, {"toy": answers(3000, 0.11, drop, 21)}).rules

    assert found.verdict == verdict
    assert found.stop is not None and found.stop.early


def test_failed_samples_leave_no_pair(policy: Ask) -> None:
    base, mine = answers(400, 0.1, 0.0, 1)
    mine[::10] = np.nan

    (rule,) = drive(SequentialGate(policy(), [stream("toy", 400)]), {"toy": (base, mine)}).rules

    assert rule.stop is not None and rule.row is not None
    assert 0 < rule.row.n < rule.stop.n


def test_scores_without_bounds_are_asked_in_full_and_judged_as_ever(
    policy: Ask, comparison: Callable[..., Comparison]
) -> None:
    random_ = np.random.default_rng(5)
    base = random_.normal(10, 2, 100)
    mine = base - 2 + random_.normal(0, 0.3, 100)
    whole = comparison({"loss": (base, mine)}, metric="acc")
    gate = SequentialGate(policy(), [stream("loss", 100)])
    while (batch := gate.next_batch()) is not None:
        gate.feed(batch, *answer(batch, {"loss": (base, mine)}))

    verdict = gate.judge(whole)

    assert verdict.verdict == "fail"
    assert verdict.rules[0].stop is None and verdict.rules[0].row == whole.candidates[0].tasks[0]


def test_the_rows_of_a_comparison_give_way_to_what_was_fed(policy: Ask, comparison: Callable[..., Comparison]) -> None:
    scores = answers(14_042, 0.11, 0.0, 3)
    gate = SequentialGate(policy(margins={"mmlu": 0.02}), [stream("mmlu", 14_042, role="guard")])
    drive(gate, {"mmlu": scores})

    (rule,) = gate.judge(comparison({"mmlu": scores})).rules

    assert rule.row is not None and rule.stop is not None and rule.row.n == rule.stop.n < 14_042


def test_a_batch_that_was_not_asked_for_is_refused(policy: Ask) -> None:
    gate = SequentialGate(policy(), [stream("toy", 100)])
    batch = gate.next_batch()
    assert batch is not None and batch == gate.next_batch()

    with pytest.raises(ValueError, match="not asked for"):
        gate.feed(Batch(batch.stream, batch.items[:3]), [1.0] * 3, [1.0] * 3)
    with pytest.raises(ValueError, match="one each"):
        gate.feed(batch, [1.0], [1.0])
    with pytest.raises(ValueError, match="not decided"):
        gate.judge()


def test_without_anything_to_ask_the_gate_is_decided(policy: Ask) -> None:
    gate = SequentialGate(policy(Rule("tokens_per_s", value=0.9)), [stream("toy", 100)])

    assert gate.decided and gate.next_batch() is None
    assert gate.judge().exit_code == 2


def share_failing(policy: Policy, sizes: Sequence[int], gates: int) -> float:
    failed = 0
    streams = [stream(f"t{at}", n) for at, n in enumerate(sizes)]
    for seed in range(gates):
        scores = {one.task: answers(len(one.items), 0.11, 0.0, 1000 * seed + at) for at, one in enumerate(streams)}
        failed += drive(SequentialGate(policy, streams), scores).verdict == "fail"
    return failed / gates


def test_gates_on_nothing_seldom_fail(policy: Ask) -> None:
    assert share_failing(policy(), [400], 120) <= 0.1


@pytest.mark.accept
def test_gates_on_nothing_fail_no_oftener_than_alpha(policy: Ask) -> None:
    # At most 37 of 500: the 99 % binomial limit of 5 %.
    assert share_failing(policy(), [1319], 500) <= 37 / 500
    assert share_failing(policy(), [400, 400, 400, 817], 500) <= 37 / 500
