"""Verdicts on comparisons that were made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tuneboard import stats
from tuneboard.compare import CandidateInfo, Comparison, Plan, Refusal
from tuneboard.config import SuiteTask
from tuneboard.gates import Cost, Policy, Rule, RuleVerdict, judge

Make = Callable[..., Comparison]
Ask = Callable[..., Policy]
Flips = Callable[..., tuple[list[float], list[float]]]


def only(comparison: Comparison, policy: Policy) -> RuleVerdict:
    (rule,) = judge(comparison, policy).rules
    return rule


@pytest.mark.parametrize(
    ("up", "down", "verdict"),
    # n = 1319, margin 0.023: Tango's 95 % bound is above -0.023 for up to about 8 more losses than wins.
    [(72, 72, "pass"), (72, 74, "pass"), (30, 110, "fail"), (60, 85, "fail"), (66, 80, "inconclusive")],
)
def test_not_regress_passes_first_then_fails_else_stays_open(
    comparison: Make, policy: Ask, flips: Flips, up: int, down: int, verdict: str
) -> None:
    found = only(comparison({"gsm8k": flips(1319, up, down)}), policy(Rule("not_regress", ("gsm8k",))))

    assert found.verdict == verdict
    assert found.bound == pytest.approx(stats.tango_bound(up, down, 1319))
    assert found.margin == 0.023
    assert found.p == pytest.approx(stats.mcnemar(up, down, "less"))
    assert (found.bound > -0.023) == (verdict == "pass")
    assert (found.n_needed is not None) == (verdict == "inconclusive")
    assert "gsm8k acc" in found.reason


def test_a_significant_decline_within_the_margin_passes_and_says_so(
    comparison: Make, policy: Ask, flips: Flips
) -> None:
    verdict = judge(comparison({"toy": flips(14_042, 20, 60)}), policy(Rule("not_regress", margin=0.01)))

    assert verdict.verdict == "pass" and verdict.exit_code == 0
    assert ["declined within the margin" in reason for reason in verdict.reasons] == [True]
    assert verdict.rules[0].declined


def test_a_task_named_like_a_decline_is_none(comparison: Make, policy: Ask, flips: Flips) -> None:
    found = comparison({"declined_offers": flips(14_042, 20, 20), "toy": flips(14_042, 20, 20)})
    verdict = judge(found, policy(Rule("not_regress", margin=0.01)))

    assert verdict.reasons == ("all 2 rules pass",)
    assert not any(rule.declined for rule in verdict.rules)


def test_failing_is_corrected_for_the_number_of_rules_but_passing_is_not(
    comparison: Make, policy: Ask, flips: Flips
) -> None:
    weak = flips(164, 6, 15)
    assert 0.025 < stats.mcnemar(6, 15, "less") < 0.05
    one = comparison({"a": weak})
    many = comparison({"a": weak, "b": flips(164, 9, 9), "c": flips(5000, 50, 50)})
    rule = Rule("not_regress", margin=0.03)

    assert judge(one, policy(rule)).verdict == "fail"
    found = judge(many, policy(rule))
    assert [one.verdict for one in found.rules] == ["inconclusive", "inconclusive", "pass"]
    assert found.rules[0].p_corrected == pytest.approx(3 * stats.mcnemar(6, 15, "less"))
    assert judge(many, policy(rule, correction="none")).verdict == "fail"


@pytest.mark.parametrize(
    ("up", "down", "verdict"), [(60, 30, "pass"), (30, 32, "fail"), (44, 30, "inconclusive"), (10, 60, "fail")]
)
def test_improve_needs_a_gain_and_fails_where_none_that_matters_is_left(
    comparison: Make, policy: Ask, flips: Flips, up: int, down: int, verdict: str
) -> None:
    found = only(comparison({"toy": flips(1000, up, down)}), policy(Rule("improve", margin=0.02)))

    assert found.verdict == verdict
    assert found.p == pytest.approx(stats.tango_test(up, down, 1000, 0.02, "less"))


@pytest.mark.parametrize(
    ("up", "down", "verdict"), [(30, 30, "pass"), (80, 20, "fail"), (20, 80, "fail"), (42, 30, "inconclusive")]
)
def test_equivalent_looks_both_ways(
    comparison: Make, policy: Ask, flips: Flips, up: int, down: int, verdict: str
) -> None:
    found = only(comparison({"toy": flips(1000, up, down)}), policy(Rule("equivalent", margin=0.02)))

    assert found.verdict == verdict
    assert found.p == pytest.approx(stats.mcnemar(up, down))


@pytest.mark.parametrize(("value", "verdict"), [(0.45, "pass"), (0.55, "fail"), (0.49, "inconclusive")])
def test_at_least_looks_at_the_candidates_own_score(
    comparison: Make, policy: Ask, flips: Flips, value: float, verdict: str
) -> None:
    found = only(comparison({"toy": flips(1000, 30, 30)}), policy(Rule("at_least", value=value)))

    assert found.verdict == verdict
    assert found.bound == pytest.approx(stats.wilson_interval(500, 1000, 0.9)[0])
    assert found.margin is None


def test_where_lower_is_better_a_rise_is_a_regression(comparison: Make, policy: Ask) -> None:
    random = np.random.default_rng(1)
    base = random.normal(10, 2, 400)
    worse, same = base + 1 + random.normal(0, 0.3, 400), base + random.normal(0, 0.3, 400)

    def found(sides: object, rule: Rule) -> RuleVerdict:
        return only(comparison({"toy": (base, sides)}, metric="loss", higher_is_better=False), policy(rule))

    assert found(worse, Rule("not_regress", margin=0.2)).verdict == "fail"
    assert found(same, Rule("not_regress", margin=0.2)).verdict == "pass"
    # Where lower is better, `at_least` is a ceiling.
    assert found(worse, Rule("at_least", value=10.5)).verdict == "fail"
    assert found(same, Rule("at_least", value=10.5)).verdict == "pass"
    assert "at most 10.5" in found(same, Rule("at_least", value=10.5)).reason
    assert found(worse, Rule("improve", margin=0.2)).verdict == "fail"


def test_alpha_sets_the_bound(comparison: Make, policy: Ask, flips: Flips) -> None:
    found = only(comparison({"toy": flips(1000, 50, 40)}), policy(alpha=0.01))

    assert found.bound == pytest.approx(stats.tango_bound(50, 40, 1000, confidence=0.99))


def test_rules_find_their_tasks_by_name_pattern_role_or_all(comparison: Make, policy: Ask, flips: Flips) -> None:
    same = flips(2000, 20, 20)
    made = comparison(
        {"mmlu_a": same, "mmlu_b": same, "gsm8k": same, "own": same}, roles={"gsm8k": "guard", "own": "target"}
    )

    def tasks(*names: str) -> list[str]:
        return [one.task for one in judge(made, policy(Rule("not_regress", names))).rules]

    assert tasks("mmlu_b") == ["mmlu_b"]
    assert tasks("mmlu_*") == ["mmlu_a", "mmlu_b"]
    assert tasks("guards") == ["gsm8k"] and tasks("target") == ["own"]
    assert sorted(tasks("all")) == ["gsm8k", "mmlu_a", "mmlu_b", "own"]
    assert tasks("gsm8k", "guards", "own") == ["gsm8k", "own"]


def test_a_named_metric_is_taken_and_an_unknown_one_told(comparison: Make, policy: Ask, flips: Flips) -> None:
    made = comparison({"toy": flips(2000, 20, 20)})

    assert only(made, policy(Rule("not_regress", metric="acc,none"))).verdict == "pass"
    missing = only(made, policy(Rule("not_regress", ("toy",), metric="f1")))
    assert missing.verdict == "invalid" and "toy has no metric 'f1'; there is acc" in missing.reason
    anywhere = only(made, policy(Rule("not_regress", metric="acx")))
    assert anywhere.verdict == "invalid" and "all has no metric 'acx'; did you mean acc?" in anywhere.reason


def test_what_cannot_be_compared_is_invalid_and_exits_2(comparison: Make, policy: Ask, flips: Flips) -> None:
    info = CandidateInfo("mine", True, refused=(Refusal("mmlu", "different documents: 4 of 'base', 5 of 'mine'"),))
    made = comparison({"toy": flips(2000, 20, 20)}, info=info)
    # `compare` only passes on refusals of tasks that it was asked for.
    made = replace(made, candidates=(replace(made.candidates[0], refused=info.refused),))

    for entry in ("mmlu", "all", "mmlu*"):
        verdict = judge(made, policy(Rule("not_regress", (entry,))))
        assert (verdict.verdict, verdict.exit_code) == ("invalid", 2)
        assert "different documents" in verdict.reasons[0]
    assert judge(made, policy(Rule("not_regress", ("toy",)))).exit_code == 0


def test_a_refused_task_with_another_role_is_of_no_concern(comparison: Make, policy: Ask, flips: Flips) -> None:
    made = comparison({"toy": flips(2000, 20, 20)}, roles={"toy": "guard"})
    made = replace(made, candidates=(replace(made.candidates[0], refused=(Refusal("own", "no result"),)),))
    suite = (SuiteTask("toy", role="guard"), SuiteTask("own", role="target"))

    assert judge(made, policy(Rule("not_regress", ("guards",)), suite_tasks=suite)).verdict == "pass"
    assert judge(made, policy(Rule("not_regress", ("guards",)))).verdict == "invalid"


def test_names_that_mean_nothing_are_invalid_with_near_ones(comparison: Make, policy: Ask, flips: Flips) -> None:
    made = comparison({"gsm8k": flips(2000, 20, 20)})

    assert "did you mean gsm8k?" in only(made, policy(Rule("not_regress", ("gsm9k",)))).reason
    assert "roles" in only(made, policy(Rule("improve", ("targets",)))).reason


@pytest.mark.parametrize("reason", ["'mine' was not applied: same log-probabilities", None])
def test_a_candidate_that_was_not_applied_is_never_judged(
    comparison: Make, policy: Ask, flips: Flips, reason: str | None
) -> None:
    made = comparison({"toy": flips(2000, 20, 20)}, info=CandidateInfo("mine", False, reason))

    verdict = judge(made, policy(Rule("not_regress"), Rule("improve")))

    assert (verdict.verdict, verdict.exit_code) == ("invalid", 2)
    assert len(verdict.rules) == 2 and "not applied" in verdict.reasons[0]


def test_another_base_or_candidate_is_invalid(comparison: Make, policy: Ask, flips: Flips) -> None:
    made = comparison({"toy": flips(2000, 20, 20)})

    assert judge(made, policy(base="other")).exit_code == 2
    assert "was not compared" in judge(made, policy(candidate="other")).reasons[0]


def test_a_margin_of_half_the_scale_is_refused_once_the_scale_is_seen(
    comparison: Make, policy: Ask, flips: Flips
) -> None:
    found = only(comparison({"toy": flips(20, 2, 2)}, metric="own"), policy(Rule("not_regress", margin=0.5)))

    assert found.verdict == "invalid" and "less than 0.5" in found.reason


def test_a_regression_outweighs_what_could_not_be_judged(comparison: Make, policy: Ask, flips: Flips) -> None:
    made = comparison({"bad": flips(1000, 10, 90), "small": flips(20, 4, 5)})

    verdict = judge(made, policy(Rule("not_regress"), Rule("not_regress", ("gone",))))

    assert (verdict.verdict, verdict.exit_code) == ("fail", 1)
    assert "bad" in verdict.reasons[0]
    assert [verdict.count(one) for one in ("fail", "invalid", "inconclusive", "pass")] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("mapped", "verdict", "exit_code"),
    [("report", "inconclusive", 3), ("pass", "pass", 0), ("warn", "inconclusive", 0), ("fail", "fail", 1)],
)
def test_what_inconclusive_means_is_the_policys_choice(
    comparison: Make, policy: Ask, flips: Flips, mapped: str, verdict: str, exit_code: int
) -> None:
    found = judge(comparison({"humaneval": flips(164, 10, 17)}), policy(on_inconclusive=mapped))

    assert (found.verdict, found.exit_code) == (verdict, exit_code)
    assert found.rules[0].verdict == "inconclusive"
    assert "samples" in found.reasons[0]
    assert any("inconclusive, which" in reason for reason in found.reasons) == (mapped != "report")


def test_a_candidate_against_itself_passes_if_there_are_samples_enough(
    comparison: Make, policy: Ask, flips: Flips
) -> None:
    assert judge(comparison({"gsm8k": flips(1319, 0, 0)}), policy()).exit_code == 0
    small = judge(comparison({"gsm8k": flips(40, 0, 0)}), policy(margins={"gsm8k": 0.01}))
    assert small.exit_code == 3
    assert small.rules[0].n_needed is not None and small.rules[0].n_needed > 40


def test_as_many_samples_as_were_called_for_do_settle_it(comparison: Make, policy: Ask, flips: Flips) -> None:
    rule = Rule("not_regress", margin=0.03)
    found = only(comparison({"toy": flips(400, 20, 24)}), policy(rule))
    assert found.verdict == "inconclusive" and found.n_needed is not None

    n = found.n_needed
    more = comparison({"toy": flips(n, round(20 * n / 400), round(24 * n / 400))})
    assert only(more, policy(rule)).verdict == "pass"


def test_repeats_that_differ_as_much_are_mentioned(comparison: Make, policy: Ask) -> None:
    random = np.random.default_rng(2)
    base = random.beta(2, 2, 300)
    made = comparison({"toy": (base, base - 0.02 + random.normal(0, 0.02, 300))}, metric="own", spread=[4e-4, 4e-4])

    found = only(made, policy(Rule("not_regress", margin=0.001)))

    assert found.verdict == "fail" and "two evaluations of one candidate" in found.reason


def test_a_gain_of_clustered_samples_is_judged_by_the_number_of_clusters(comparison: Make, policy: Ask) -> None:
    mine = [0.5, 0.6, 0.4, 0.5, 0.7, 0.5] * 5
    found = comparison({"toy": ([0.5] * 30, mine)}, clusters=tuple(f"text-{i % 6}" for i in range(30)))
    rule = only(found, policy(Rule("improve", margin=0.2)))

    stderr = stats.clustered_t([one - 0.5 for one in mine], [i % 6 for i in range(30)])
    assert rule.p == pytest.approx(stderr.p_less(0.2))
    assert stderr.freedom == 5


def fast(base: float | None, mine: float | None, machine: str = "box") -> dict[str, Cost]:
    return {"base": Cost(base, 2.0, 10.0, "box"), "mine": Cost(mine, 2.3, 10.5, machine)}


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        (Rule("tokens_per_s", value=0.9), "pass"),
        (Rule("tokens_per_s", value=0.96), "fail"),
        (Rule("latency_p95", value=1.1), "fail"),
        (Rule("latency_p95", value=1.2), "pass"),
        (Rule("peak_memory", value=1.1), "pass"),
        (Rule("peak_memory", value=1.04), "fail"),
    ],
)
def test_speed_and_memory_are_held_against_the_bases(
    comparison: Make, policy: Ask, flips: Flips, rule: Rule, verdict: str
) -> None:
    (found,) = judge(comparison({"toy": flips(100, 5, 5)}), policy(rule), fast(1000.0, 950.0)).rules

    assert found.verdict == verdict
    assert "of the base's" in found.reason and found.row is None


@pytest.mark.parametrize("costs", [{}, fast(None, 3.0), fast(3.0, None), fast(3.0, 3.0, machine="other")])
def test_costs_that_cannot_be_compared_are_invalid(
    comparison: Make, policy: Ask, flips: Flips, costs: dict[str, Cost]
) -> None:
    verdict = judge(comparison({"toy": flips(100, 5, 5)}), policy(Rule("tokens_per_s", value=0.9)), costs)

    assert verdict.exit_code == 2


def test_five_hundred_gates_on_nothing_fail_no_oftener_than_alpha(comparison: Make, policy: Ask, flips: Flips) -> None:
    # A/A: 11 % of 1,319 samples change, either way alike; the 99 % binomial limit of 5 % is 37 of 500.
    random, failed = np.random.default_rng(9), 0
    for _ in range(500):
        changed = random.binomial(1319, 0.11)
        up = random.binomial(changed, 0.5)
        made = comparison({"gsm8k": flips(1319, up, changed - up)})
        failed += judge(made, policy()).verdict == "fail"

    assert failed <= 37


def test_guards_that_nobody_evaluated_are_no_pass(comparison: Make, policy: Ask, flips: Flips) -> None:
    suite = tuple(SuiteTask(name, role=role) for name, role in (("a", "guard"), ("b", "guard"), ("c", "target")))  # type: ignore[arg-type]
    guards = policy(Rule("not_regress", ("guards",), margin=0.05), suite_tasks=suite)
    alike = {name: flips(2000, 10, 10) for name in "abc"}

    whole = judge(comparison(alike, plan=Plan(suite)), guards)
    without = {name: alike[name] for name in "ac"}
    partly = judge(comparison(without, plan=Plan(suite)), guards)
    meant = judge(comparison(without, plan=Plan(suite, expected=("a", "c"))), guards)
    target = judge(comparison({name: alike[name] for name in "ab"}, plan=Plan(suite)), guards)

    assert [one.verdict for one in (whole, partly, meant, target)] == ["pass", "invalid", "pass", "pass"]
    assert partly.exit_code == 2 and "b: asked for by the suite, but without a result" in partly.reasons[0]
    assert [rule.verdict for rule in partly.rules] == ["invalid", "pass"]
