"""Comparisons of scores that were made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from tuneboard import stats
from tuneboard.compare import (
    CandidateInfo,
    GroupScores,
    Judgement,
    Plan,
    Scores,
    TaskComparison,
    TaskScores,
    compare,
)
from tuneboard.compare.flips import changed_samples
from tuneboard.config import SuiteTask


@pytest.fixture
def make(
    make_task: Callable[..., TaskScores], make_scores: Callable[..., Scores], make_flips: Callable[..., Any]
) -> SimpleNamespace:
    return SimpleNamespace(task=make_task, scores=make_scores, flips=make_flips)


def only_row(make: SimpleNamespace, values: Any, **changes: Any) -> TaskComparison:
    (row,) = compare(make.scores(make.task("toy", values, **changes))).candidates[0].tasks
    return row


def test_binary_scores_get_exact_mcnemar_and_tangos_interval(make: SimpleNamespace) -> None:
    row = only_row(make, make.flips(164, 100, 20, 6))

    assert (row.fixed, row.broke, row.n) == (20, 6, 164)
    assert row.delta == pytest.approx(14 / 164)
    assert (row.base, row.candidate) == pytest.approx((100 / 164, 114 / 164))
    assert row.effect.ci == stats.tango_interval(20, 6, 164)
    assert row.bound == stats.tango_bound(20, 6, 164)
    assert row.effect.p == pytest.approx(binomtest(20, 26).pvalue)
    assert row.p_decline == pytest.approx(binomtest(20, 26, alternative="less").pvalue)
    assert row.base_ci == stats.wilson_interval(100, 164)
    assert row.effect.mde == stats.detectable_flips(26, 164)
    assert row.effect.interval(0.8) == stats.tango_interval(20, 6, 164, 0.8)
    assert "McNemar" in row.effect.test and row.effect.why


def test_other_scores_get_a_permutation_test_and_t(make: SimpleNamespace) -> None:
    random = np.random.default_rng(1)
    base = random.beta(2, 2, 200)
    mine = np.clip(base + random.normal(0.03, 0.1, 200), 0, 1)

    row = only_row(make, {"base": base, "mine": mine})

    mean = stats.paired_t(mine - base)
    assert row.effect.ci == pytest.approx(mean.interval())
    assert row.bound == pytest.approx(mean.interval(0.9)[0])
    assert row.effect.p == pytest.approx(mean.p_value(), abs=0.01)
    assert row.effect.test == "paired permutation, t interval"
    assert (row.fixed, row.broke) == (int((mine > base).sum()), int((mine < base).sum()))
    assert row.base_ci == pytest.approx(stats.mean_interval(base.tolist()))


def test_skewed_differences_get_bca(make: SimpleNamespace) -> None:
    random = np.random.default_rng(2)
    row = only_row(make, {"base": np.zeros(60), "mine": random.lognormal(0, 1.2, 60)})

    assert "BCa" in row.effect.test and "skewed" in row.effect.why
    assert row.effect.ci[1] - row.delta > row.delta - row.effect.ci[0]
    assert row.effect.interval(0.95) == row.effect.ci


def test_scores_of_0_to_1_that_nowhere_differ_still_leave_a_doubt(make: SimpleNamespace) -> None:
    same = np.linspace(0.1, 0.9, 50)
    row = only_row(make, {"base": same, "mine": same})

    assert row.effect.p == 1.0
    assert row.effect.ci == stats.tango_interval(0, 0, 50)


def test_clustered_samples_get_clustered_errors(make: SimpleNamespace) -> None:
    random = np.random.default_rng(3)
    clusters = tuple(f"passage-{i // 5}" for i in range(200))
    base = random.integers(0, 2, 200).astype(float)
    mine = np.where(np.repeat(random.random(40) < 0.2, 5), 1.0, base)

    row = only_row(make, {"base": base, "mine": mine}, clusters=clusters)

    expected = stats.clustered_t(mine - base, clusters)
    assert row.effect.ci == pytest.approx(expected.interval())
    assert "clustered" in row.effect.test
    assert row.effect.ci[0] < stats.tango_interval(row.fixed, 0, 200)[0]


def test_clusters_that_nowhere_differ_still_leave_a_doubt(make: SimpleNamespace) -> None:
    same = [0.0, 1.0] * 10
    clusters = tuple(f"passage-{i // 4}" for i in range(20))

    row = only_row(make, {"base": same, "mine": same}, clusters=clusters)

    # As five samples would, and not as twenty.
    assert row.effect.p == 1.0
    assert row.effect.ci[1] > stats.tango_interval(0, 0, 20)[1]
    assert row.effect.freedom == 4


def test_corpus_statistics_resample_whole_clusters(make: SimpleNamespace) -> None:
    random = np.random.default_rng(4)
    clusters = tuple(f"page-{i // 10}" for i in range(200))
    base = -random.gamma(5, 1, 200)
    mine = base + np.repeat(random.normal(0, 1, 20), 10)
    values = {"base": base, "mine": mine}
    reported = tuple(float(np.exp(-row.mean())) for row in values.values())
    changes = {"metric": "perplexity", "reported": reported, "higher_is_better": False}

    alone, clustered = only_row(make, values, **changes), only_row(make, values, clusters=clusters, **changes)

    assert clustered.delta == pytest.approx(alone.delta)
    assert clustered.effect.ci[1] - clustered.effect.ci[0] > 2 * (alone.effect.ci[1] - alone.effect.ci[0])
    assert clustered.effect.p > alone.effect.p


def test_samples_that_failed_on_one_side_are_left_out_and_counted(make: SimpleNamespace) -> None:
    values = make.flips(20, 10, 4, 0)
    values["base"][0] = values["mine"][19] = float("nan")

    row = only_row(make, values)

    assert (row.n, row.left_out, row.fixed) == (18, 2, 4)
    assert row.base == pytest.approx(9 / 18)


def test_a_candidate_without_a_shared_sample_is_refused(make: SimpleNamespace) -> None:
    comparison = compare(make.scores(make.task("toy", {"base": [1, 0, 1], "mine": [float("nan")] * 3})))

    assert not comparison.valid
    assert comparison.candidates[0].reason == "too few samples have a score on both sides"
    assert comparison.candidates[0].refused[0].task == "toy"


@pytest.mark.parametrize(
    ("counts", "higher", "status"),
    [
        ((2000, 1000, 90, 20), True, "improved"),
        ((2000, 1000, 20, 90), True, "regressed"),
        ((2000, 1000, 20, 90), False, "improved"),
        ((2000, 1000, 90, 20), False, "regressed"),
        ((2000, 1000, 10, 10), True, "equivalent"),
        ((60, 30, 8, 4), True, "inconclusive"),
    ],
)
def test_statuses(make: SimpleNamespace, counts: tuple[int, ...], higher: bool, status: str) -> None:
    row = only_row(make, make.flips(*counts), higher_is_better=higher)

    assert row.status == status
    assert (row.n_needed is not None) == (status == "inconclusive")
    if status == "inconclusive":
        assert row.n_needed > row.n


def test_where_lower_is_better_fixed_broke_and_bound_turn_round(make: SimpleNamespace) -> None:
    row = only_row(make, make.flips(200, 100, 20, 6), higher_is_better=False)

    assert (row.fixed, row.broke) == (6, 20)
    assert row.bound == stats.tango_bound(20, 6, 200, "upper") > row.delta > 0
    assert row.gain == -row.delta
    assert row.p_decline == pytest.approx(binomtest(20, 26, alternative="greater").pvalue)


def test_a_significant_decline_within_the_margin_is_equivalent_and_said(make: SimpleNamespace) -> None:
    row = only_row(make, make.flips(14042, 7000, 10, 40))

    assert row.p_adjusted < 0.05
    assert (row.status, row.note) == ("equivalent", "declined within the margin")


def test_margins_can_be_named(make: SimpleNamespace) -> None:
    scores = make.scores(make.task("toy", make.flips(164, 100, 5, 5)))

    rows = [
        compare(scores, Plan(judgement=Judgement(margins=margins))).candidates[0].tasks[0]
        for margins in ({"toy": 0.2}, {"toy": 0.001})
    ]

    assert [(row.margin, row.status) for row in rows] == [(0.2, "equivalent"), (0.001, "inconclusive")]


def test_guards_are_corrected_by_holm_and_what_nobody_asked_for_by_benjamini_hochberg(make: SimpleNamespace) -> None:
    downs = {"g1": 12, "g2": 8, "g3": 5, "x1": 12, "x2": 8, "x3": 5}
    tasks = [make.task(name, make.flips(100, 50, 1, down)) for name, down in downs.items()]
    entries = [SuiteTask(name, role="guard") for name in ("g1", "g2", "g3")]

    rows = {row.task: row for row in compare(make.scores(*tasks, entries=entries)).candidates[0].tasks}

    raw = [rows[name].effect.p for name in ("g1", "g2", "g3")]
    assert [rows[name].p_adjusted for name in ("g1", "g2", "g3")] == pytest.approx(multipletests(raw, method="holm")[1])
    assert [rows[name].p_adjusted for name in ("x1", "x2", "x3")] == pytest.approx(
        multipletests(raw, method="fdr_bh")[1]
    )
    assert {row.role for row in rows.values()} == {"guard", "none"}


def make_group(make: SimpleNamespace, by_size: bool = True) -> Scores:
    members = {"mmlu_a": make.flips(100, 60, 9, 2), "mmlu_b": make.flips(300, 100, 12, 20)}
    tasks = [make.task(name, values) for name, values in members.items()]
    means = {name: [np.mean(values[name]) for values in members.values()] for name in ("base", "mine")}
    weights = [100, 300] if by_size else [1, 1]
    reported = {name: {("acc", "none"): float(np.average(found, weights=weights))} for name, found in means.items()}
    group = GroupScores("mmlu", tuple(members), 400, reported, {"base": 400, "mine": 400})
    return make.scores(*tasks, groups=[group], entries=[SuiteTask("mmlu", role="guard")])


def test_a_group_that_weighs_by_size_is_one_large_sample(make: SimpleNamespace) -> None:
    rows = compare(make_group(make)).candidates[0].tasks

    group = rows[0]
    assert [row.task for row in rows] == ["mmlu", "mmlu_a", "mmlu_b"]
    assert (group.kind, group.n, group.fixed, group.broke) == ("group", 400, 21, 22)
    assert group.base == pytest.approx(160 / 400)
    assert group.effect.ci == stats.tango_interval(21, 22, 400)
    assert [row.member_of for row in rows] == [None, "mmlu", "mmlu"]
    assert {row.role for row in rows} == {"guard"}
    assert group.margin == 0.007


def test_a_group_that_weighs_its_tasks_alike_is_the_mean_of_their_differences(make: SimpleNamespace) -> None:
    row = compare(make_group(make, by_size=False)).candidates[0].tasks[0]

    assert row.delta == pytest.approx((7 / 100 - 8 / 300) / 2)
    assert row.base == pytest.approx((0.6 + 1 / 3) / 2)
    stderrs = [
        ((up + down + 2) / (n + 2) - ((up - down) / (n + 2)) ** 2) / (n + 2)
        for up, down, n in ((9, 2, 100), (12, 20, 300))
    ]
    assert row.effect.variance == pytest.approx(400 * sum(stderrs) / 4)
    assert (row.fixed, row.broke) == (21, 22)


def test_a_group_that_is_made_in_another_way_is_refused(make: SimpleNamespace) -> None:
    scores = make_group(make)
    wrong = replace(scores.groups[0], reported={"base": {("acc", "none"): 0.9}, "mine": {("acc", "none"): 0.9}})

    done = compare(replace(scores, groups=(wrong,))).candidates[0]

    assert [row.task for row in done.tasks] == ["mmlu_a", "mmlu_b"]
    assert "neither the mean of its samples" in done.refused[0].reason


def test_a_group_lacking_a_task_is_refused(make: SimpleNamespace) -> None:
    scores = make_group(make)

    done = compare(replace(scores, tasks=scores.tasks[:1])).candidates[0]

    assert [row.task for row in done.tasks] == ["mmlu_a"]
    assert done.refused[0].reason == "its task mmlu_b is not compared"


def test_a_suite_chooses_tasks_with_their_members_roles_and_headlines(make: SimpleNamespace) -> None:
    scores = make_group(make)
    other = make.task("other", make.flips(50, 20, 3, 3))
    scores = replace(scores, tasks=(*scores.tasks, other), order=("other", *scores.order), entries=())

    chosen = compare(scores, Plan(suite=[SuiteTask("mmlu", role="target")])).candidates[0]
    tagged = compare(scores, Plan(suite=[SuiteTask("tag", role="guard")], tags={"tag": ["other"]})).candidates[0]
    pattern = compare(scores, Plan(suite=[SuiteTask("mmlu_*")])).candidates[0]

    assert [(row.task, row.role) for row in chosen.tasks] == [(name, "target") for name in ("mmlu", "mmlu_a", "mmlu_b")]
    assert [(row.task, row.role) for row in tagged.tasks] == [("other", "guard")]
    assert [row.task for row in pattern.tasks] == ["mmlu_a", "mmlu_b"]
    assert [row.task for row in compare(scores).candidates[0].tasks] == ["mmlu", "mmlu_a", "mmlu_b", "other"]


def test_the_headline_metric_comes_first_and_the_suite_may_name_it(make: SimpleNamespace) -> None:
    task = make.task("toy", make.flips(50, 20, 3, 3))
    norm = make.task("toy", make.flips(50, 30, 9, 1), metric="acc_norm")
    both = replace(task, metrics={**task.metrics, **norm.metrics})

    usual = compare(make.scores(both)).candidates[0]
    named = compare(make.scores(both, entries=[SuiteTask("toy", headline="acc_norm")])).candidates[0]

    assert [(row.metric, row.headline) for row in usual.tasks] == [("acc", True), ("acc_norm", False)]
    assert [(row.metric, row.headline) for row in named.tasks] == [("acc_norm", True), ("acc", False)]
    assert named.row("toy").metric == "acc_norm"
    assert named.row("toy", "acc").fixed == 3
    assert named.row("nothing") is None


def test_metrics_beside_the_headline_change_nothing_about_it(make: SimpleNamespace) -> None:
    task = make.task("toy", make.flips(50, 20, 12, 3))
    others = [make.task("toy", make.flips(50, 30, 3, 3), metric=f"acc_{name}") for name in ("norm", "bytes", "other")]
    more = replace(task, metrics={name: one for each in (task, *others) for name, one in each.metrics.items()})

    alone, among = (compare(make.scores(one)).candidates[0].row("toy") for one in (task, more))

    assert among.p_adjusted == alone.p_adjusted == alone.effect.p < 0.05
    beside = [row.p_adjusted for row in compare(make.scores(more)).candidates[0].tasks if not row.headline]
    assert beside == [1.0, 1.0, 1.0]


def test_forgetting_weighs_targets_against_guards_and_ranks_the_frontier(make: SimpleNamespace) -> None:
    base = make.flips(400, 200, 0, 0)["base"]

    def changed(up: int, down: int) -> list[float]:
        return make.flips(400, 200, up, down)["mine"]

    target = make.task("t", {"base": base, "a": changed(80, 0), "b": changed(40, 0), "c": changed(30, 0)})
    guard = make.task("g", {"base": base, "a": changed(0, 40), "b": changed(4, 0), "c": changed(0, 8)})
    entries = [SuiteTask("t", role="target"), SuiteTask("g", role="guard")]

    done = {one.name: one.forgetting for one in compare(make.scores(target, guard, entries=entries)).candidates}

    assert (done["a"].target_gain, done["a"].guard_loss) == pytest.approx((0.2, 0.1))
    # b rose on the guard, which makes up for nothing.
    assert (done["b"].target_gain, done["b"].guard_loss) == pytest.approx((0.1, 0.0))
    assert [done[name].front for name in "abc"] == [1, 1, 2]
    assert (done["a"].gained, done["a"].lost) == (("t",), ("g",))


def test_without_roles_nothing_is_said_of_forgetting(make: SimpleNamespace) -> None:
    found = compare(make.scores(make.task("toy", make.flips(50, 20, 3, 3)))).candidates[0].forgetting

    assert (found.target_gain, found.guard_loss, found.front) == (None, None, None)


def test_candidates_that_cannot_be_told_apart_share_a_place(make: SimpleNamespace) -> None:
    random = np.random.default_rng(5)
    base = (random.random(1000) < 0.5).astype(float)
    values = {"base": base}
    for name, gain in (("good", 0.15), ("as-good", 0.14), ("bad", -0.2)):
        moved = random.random(1000) < abs(gain)
        values[name] = np.where(moved, float(gain > 0), base)

    (ranked,) = compare(make.scores(make.task("toy", values))).ranks

    assert dict(ranked.ranks) == {"good": 1, "as-good": 1, "base": 3, "bad": 4}


@pytest.mark.parametrize("kind", ["graded", "clustered", "group"])
def test_every_kind_of_score_is_ranked(make: SimpleNamespace, kind: str) -> None:
    random = np.random.default_rng(6)
    base = random.random(300) * 0.6
    values = {"base": base, "up": base + 0.3, "down": base * 0.5}
    clusters = tuple(str(i // 3) for i in range(300)) if kind == "clustered" else None
    task = make.task("toy", values, clusters=clusters)
    means = {name: {("acc", "none"): float(row.mean())} for name, row in values.items()}
    groups = [GroupScores("all", ("toy",), 300, means, dict.fromkeys(values, 300))] if kind == "group" else []

    ranks = compare(make.scores(task, groups=groups)).ranks

    assert all(dict(one.ranks) == {"up": 1, "base": 2, "down": 3} for one in ranks)
    assert len(ranks) == (2 if kind == "group" else 1)


def test_a_single_candidate_is_not_ranked(make: SimpleNamespace) -> None:
    assert compare(make.scores(make.task("toy", make.flips(50, 20, 3, 3)))).ranks == ()


def test_the_base_compared_with_itself_is_the_same(make: SimpleNamespace) -> None:
    task = make.task("mmlu", {"base": [0.0, 1.0] * 2000, "x": [0.0, 1.0] * 2000})
    task = replace(task, names=("base", "base"))

    (row,) = compare(make.scores(task)).candidates[0].tasks

    assert (row.delta, row.effect.p, row.status) == (0.0, 1.0, "equivalent")


def test_the_noise_of_repeats_stands_beside_the_difference(make: SimpleNamespace) -> None:
    values = make.flips(400, 200, 6, 4)
    # The base differs from itself in 20 samples of 400: a variance of 1/2 in each, over 400 squared.
    spread = np.array([20 * 0.5 / 400**2, np.nan])

    row = only_row(make, values, spread=spread, repeats=(2, 1))

    assert row.noise_floor == pytest.approx(1.959964 * (spread[0] / 2 + spread[0]) ** 0.5)
    assert row.within_noise and "within the noise" in row.note
    assert only_row(make, values).noise_floor is None


def test_refused_candidates_keep_their_reason(make: SimpleNamespace) -> None:
    scores = make.scores(
        make.task("toy", make.flips(50, 20, 3, 3)), mine=CandidateInfo("mine", False, "it was not applied")
    )
    done = compare(replace(scores, tasks=())).candidates[0]

    assert (done.applied, done.reason, done.tasks) == (False, "it was not applied", ())


def test_changed_samples_name_the_largest_changes_first(make: SimpleNamespace) -> None:
    task = make.task("toy", {"base": [0.5, 0.5, 1.0, 0.0, 0.2], "mine": [0.5, 0.4, 0.0, 0.1, 1.0]})
    scores = make.scores(task)

    flips = changed_samples(scores, compare(scores), 1)
    every = changed_samples(scores, compare(scores), 10)

    assert [(flip.doc_id, flip.direction) for flip in flips] == [(2, "broke"), (4, "fixed")]
    assert [flip.doc_id for flip in every] == [2, 1, 4, 3]


def test_the_same_seed_gives_the_same_comparison(make: SimpleNamespace) -> None:
    random = np.random.default_rng(7)
    scores = make.scores(make.task("toy", {"base": random.random(100), "mine": random.lognormal(0, 1, 100)}))

    first, again, other = (compare(scores, Plan(seed=seed)) for seed in (1, 1, 2))

    assert first == again
    assert first.candidates[0].tasks[0].effect.ci != other.candidates[0].tasks[0].effect.ci


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_candidate_without_scores_spoils_nothing_for_the_others(make: SimpleNamespace, scale: float) -> None:
    values = {name: [scale * score for score in scores] for name, scores in make.flips(200, 100, 40, 2).items()}
    values["none"] = [float("nan")] * 200
    values["other"] = values["base"]

    comparison = compare(make.scores(make.task("toy", values)))

    assert [one.reason for one in comparison.candidates] == [None, "too few samples have a score on both sides", None]
    assert dict(comparison.ranks[0].ranks) == {"mine": 1, "base": 2, "none": 1, "other": 2}


def test_samples_of_a_single_cluster_are_refused(make: SimpleNamespace) -> None:
    values = make.flips(20, 10, 4, 2)
    scores = make.scores(make.task("toy", values, clusters=("one",) * 20))

    assert not compare(scores).valid
