"""Stopping rules: how often they err, how early they stop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuneboard import stats
from tuneboard.stats.monitoring import EARLY_FAIL


def counts(schedule: stats.Schedule, loss: float, win: float, streams: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Running wins and losses after each batch."""
    sizes = np.diff([0, *schedule.ends])
    drawn = np.random.default_rng(seed).multinomial(
        np.broadcast_to(sizes, (streams, len(sizes))), [win, loss, 1 - win - loss]
    )
    return drawn[..., 0].cumsum(axis=1), drawn[..., 1].cumsum(axis=1)


def run(n: int, changed: float, drop: float, margin: float, streams: int, aim: stats.Aim = "not_regress") -> stats.Runs:
    schedule = stats.Schedule(n)
    wins, losses = counts(schedule, (changed + drop) / 2, (changed - drop) / 2, streams, 17)
    return stats.run_flips(aim, margin, schedule, wins, losses)


def test_batches_end_with_the_sample_and_looks_fall_on_its_tenths() -> None:
    schedule = stats.Schedule(1319)

    assert schedule.ends[:2] == (32, 64) and schedule.ends[-2:] == (1312, 1319)
    assert len(schedule.bounds) == 10
    seen = [schedule.ends[at] for at in schedule.bounds]
    assert seen == [160, 288, 416, 544, 672, 800, 928, 1056, 1216, 1319]
    assert list(schedule.bounds.values()) == sorted(schedule.bounds.values(), reverse=True)


def test_a_small_task_has_one_look_as_a_plain_test_has() -> None:
    schedule = stats.Schedule(20)

    assert schedule.ends == (20,)
    assert schedule.bounds[0] == pytest.approx(1.6449, abs=1e-4)


@pytest.mark.parametrize("margin", [0.001, 0.023])
def test_false_alarms_stay_below_alpha(margin: float) -> None:
    assert run(1319, 0.11, 0.0, margin, 5000).failed.mean() <= 0.05


@pytest.mark.parametrize("changed", [0.11, 0.15])
def test_a_drop_of_five_points_is_found_early(changed: float) -> None:
    found = run(1319, changed, 0.05, 0.023, 5000)

    assert found.failed.mean() >= 0.8
    assert found.seen.mean() <= 0.4 * 1319


def test_no_change_passes_early_where_there_are_many_samples() -> None:
    found = run(14_042, 0.11, 0.0, 0.02, 200)

    assert found.passed.mean() >= 0.95
    assert found.seen.mean() <= 0.4 * 14_042


@pytest.mark.parametrize("margin", [0.01, 0.023])
def test_a_drop_of_the_margin_passes_no_oftener_than_alpha(margin: float) -> None:
    # Three binomial standard errors at 2,000 are 1.5 points.
    assert run(1319, 0.11, margin, margin, 2000).passed.mean() <= 0.065


def test_improvements_are_not_claimed_where_there_are_none() -> None:
    assert run(1319, 0.11, 0.0, 0.023, 2000, "improve").passed.mean() <= 0.065
    assert run(1319, 0.11, -0.04, 0.023, 500, "improve").passed.mean() >= 0.9


def test_equivalence_is_not_claimed_at_the_margin_nor_denied_without_a_change() -> None:
    assert run(1319, 0.11, 0.03, 0.03, 2000, "equivalent").passed.mean() <= 0.065
    same = run(1319, 0.11, 0.0, 0.03, 2000, "equivalent")
    assert same.failed.mean() <= 0.05
    assert same.passed.mean() >= 0.8


def test_bounds_of_a_look_say_what_its_statistic_says() -> None:
    schedule = stats.Schedule(1319)
    at = list(schedule.bounds)[5]
    for losses in range(30, 60, 3):
        found = (40, losses, schedule.ends[at])
        passes = bool(stats.watch_flips("not_regress", 0.02, schedule, at, found).passes)
        assert passes == (stats.bounds_of_flips(schedule, at, found)[0] >= -0.02)


def test_between_looks_nothing_passes() -> None:
    schedule = stats.Schedule(1319)

    assert not stats.watch_flips("not_regress", 0.3, schedule, 0, (20, 0, 32)).passes
    assert stats.watch_flips("not_regress", 0.3, schedule, list(schedule.bounds)[3], (20, 0, 544)).passes


def test_early_and_late_evidence_share_alpha() -> None:
    assert stats.p_of_failing(math.log(25)) == pytest.approx(1 / 25 / EARLY_FAIL)
    assert stats.p_of_failing(math.log(25.001)) <= 0.05 < stats.p_of_failing(math.log(24.999))
    assert stats.p_of_failing(0.0, 0.01) == pytest.approx(0.05)
    assert stats.p_of_failing(-5.0) == 1.0


def bounded_run(n: int, drop: float, margin: float, streams: int) -> tuple[float, float, float]:
    """Shares that fail and pass, and how much of the sample they took."""
    random, schedule = np.random.default_rng(23), stats.Schedule(n)
    fails, passes, seen = 0, 0, 0
    for _ in range(streams):
        gains = np.clip(np.where(random.random(n) < 0.5, random.normal(-2 * drop, 0.15, n), 0.0), -1, 1)
        largest = 0.0
        for at, end in enumerate(schedule.ends):
            evidence = stats.watch_scores("not_regress", margin, schedule, at, gains[:end])
            largest = max(largest, evidence.log_e)
            last = at == schedule.last
            p = stats.p_of_failing(largest, stats.last_p_of_scores("not_regress", margin, gains) if last else 1.0)
            if evidence.passes or (p <= 0.05 and (last or evidence.chance < stats.LIKELY)):
                break
        passes += bool(evidence.passes)
        fails += not evidence.passes and p <= 0.05
        seen += end
    return fails / streams, passes / streams, seen / streams / n


def test_bets_on_bounded_scores_err_seldom_and_stop_early() -> None:
    same, dropped, at_margin = (bounded_run(817, drop, 0.03, 150) for drop in (0.0, 0.06, 0.03))

    assert same[0] <= 0.05 and same[1] >= 0.9 and same[2] < 0.6
    assert dropped[0] >= 0.95 and dropped[2] < 0.4
    assert at_margin[1] <= 0.1


@pytest.mark.parametrize("at_end", [False, True])
def test_bounds_of_bets_say_what_passing_says(at_end: bool) -> None:
    schedule, random = stats.Schedule(640), np.random.default_rng(4)
    at = schedule.last if at_end else 9
    for mean in np.linspace(-0.03, 0.03, 9):
        gains = np.clip(random.normal(mean, 0.2, schedule.ends[at]), -1, 1)
        passes = stats.watch_scores("not_regress", 0.05, schedule, at, gains).passes
        assert passes == (stats.bounds_of_gains(schedule, at, gains)[0] >= -0.05)
        assert stats.watch_level(0.5, schedule, at, (1 + gains) / 2).passes == (
            stats.bounds_of_scores(schedule, at, (1 + gains) / 2)[0] >= 0.5
        )


def test_a_level_is_watched_in_both_directions() -> None:
    schedule, random = stats.Schedule(1000), np.random.default_rng(6)
    right = (random.random(512) < 0.7).astype(float)
    at = schedule.ends.index(512)

    assert stats.watch_level(0.5, schedule, at, right).passes
    low = stats.watch_level(0.9, schedule, at, right)
    assert not low.passes and stats.p_of_failing(low.log_e) < 0.01 and low.chance < 0.01
    whole = (random.random(1000) < 0.7).astype(float)
    assert stats.last_p_of_level(0.75, whole) < 0.05 < stats.last_p_of_level(0.65, whole)


@pytest.mark.accept
@pytest.mark.parametrize("changed", [0.05, 0.11, 0.15, 0.3])
@pytest.mark.parametrize("n", [164, 1319, 5000])
@pytest.mark.parametrize("margin", [0.001, 0.01, 0.03])
def test_false_alarms_stay_below_alpha_for_all_sizes(n: int, changed: float, margin: float) -> None:
    assert run(n, changed, 0.0, margin, 20_000).failed.mean() <= 0.05
