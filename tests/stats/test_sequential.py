"""Evidence that may be looked at again and again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import beta, binom, norm

from tuneboard import stats


@pytest.mark.parametrize(
    ("losses", "wins", "value"),
    # By hand: 2^(L+W+1) B(L+1, W+1) P(Beta(L+1, W+1) > 1/2).
    [(0, 0, 1.0), (1, 0, 4 / 2 * 3 / 4), (0, 1, 4 / 2 * 1 / 4), (2, 0, 8 / 3 * 7 / 8), (1, 1, 8 / 6 * 1 / 2)],
)
def test_e_values_are_those_computed_by_hand(losses: int, wins: int, value: float) -> None:
    assert math.exp(stats.log_e_value(losses, wins)) == pytest.approx(value)


def test_an_e_value_is_the_mean_likelihood_ratio_over_shares_above_one_half() -> None:
    ratio, _ = integrate.quad(lambda p: 2 * (p / 0.5) ** 14 * ((1 - p) / 0.5) ** 5, 0.5, 1)

    assert math.exp(stats.log_e_value(14, 5)) == pytest.approx(ratio)
    assert stats.log_e_value(14, 5) == pytest.approx(
        20 * math.log(2) + math.log(beta(15, 6).sf(0.5)) + _log_beta(15, 6)
    )


def _log_beta(a: int, b: int) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def test_an_e_value_is_a_fair_game_if_losses_are_as_likely_as_wins() -> None:
    losses, wins = np.meshgrid(np.arange(60), np.arange(60))
    now, lost, won = (np.exp(stats.log_e_value(losses + a, wins + b)) for a, b in ((0, 0), (1, 0), (0, 1)))

    np.testing.assert_allclose((lost + won) / 2, now, rtol=1e-9)


def test_an_e_value_stays_finite_for_any_number_of_samples() -> None:
    # Without any loss, E = 1 / (W + 1), and without any win, E = (2^(L+1) - 1) / (L + 1).
    found = stats.log_e_value([5000, 0, 40], [0, 5000, 5000])

    assert found[:2] == pytest.approx([5001 * math.log(2) - math.log(5001), -math.log(5001)])
    log_mean = integrate.quad(lambda p: 2 * (2 * p) ** 40 * (2 * (1 - p)) ** 5000, 0.5, 0.52)[0]
    assert found[2] == pytest.approx(math.log(log_mean), abs=1e-5)


def test_far_more_wins_than_losses_are_never_evidence_of_a_decline() -> None:
    losses, wins = np.meshgrid(np.arange(0, 4000, 40), np.arange(0, 8000, 40))
    clear = wins > losses + 10 * np.sqrt(wins + losses + 1)

    assert (stats.log_e_value(losses, wins)[clear] < 0).all()


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        stats.log_e_value(-1, 0)


def exact_crossing(changed: int, threshold: float) -> float:
    """Probability that E reaches a threshold within so many changed samples, of which each is a loss by a coin toss."""
    alive, crossed = np.array([1.0]), 0.0
    for total in range(1, changed + 1):
        alive = (np.append(alive, 0.0) + np.append(0.0, alive)) / 2
        losses = np.arange(total + 1)
        over = stats.log_e_value(losses, total - losses) >= math.log(threshold)
        crossed += alive[over].sum()
        alive[over] = 0.0
    return float(crossed)


def test_looking_after_every_sample_keeps_the_level() -> None:
    # 145 changes are 11 % of GSM8K's 1,319 samples.
    found = exact_crossing(145, 20)

    assert 0.025 < found <= 0.05
    assert exact_crossing(145, 25) <= 0.04


def test_looking_at_a_plain_test_after_every_batch_does_not() -> None:
    random = np.random.default_rng(0)
    losses = (random.random((4000, 145)) < 0.5).cumsum(axis=1)
    totals = np.arange(1, 146)
    peeked = stats.mcnemar(totals - losses, losses, "less")[:, 4::4] <= 0.05

    assert peeked.any(axis=1).mean() > 0.15


def test_spending_bounds_are_the_published_ones() -> None:
    # Two-sided 5 %, five equal looks: Lan and DeMets' O'Brien-Fleming spending as in Reboussin et al. 2000, table 1.
    found = stats.spending_bounds((0.2, 0.4, 0.6, 0.8, 1.0), 0.025)

    assert found == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=5e-4)


def test_a_single_look_has_the_plain_quantile() -> None:
    assert stats.spending_bounds((1.0,), 0.05) == pytest.approx((norm.isf(0.05),), abs=1e-6)


def test_all_of_alpha_is_spent_in_the_end_and_little_at_first() -> None:
    assert stats.spent(1.0, 0.05) == pytest.approx(0.05)
    assert stats.spent(0.5, 0.05) == pytest.approx(2 * norm.sf(norm.isf(0.025) / math.sqrt(0.5)))
    assert stats.spent(0.1, 0.05) < 1e-8


def test_a_random_walk_crosses_the_bounds_as_often_as_alpha_says() -> None:
    fractions = tuple(np.arange(1, 11) / 10)
    random = np.random.default_rng(3)
    walk = random.normal(0, math.sqrt(0.1), (40_000, 10)).cumsum(axis=1) / np.sqrt(fractions)

    crossed = (walk >= stats.spending_bounds(fractions, 0.05)).any(axis=1).mean()

    # Three binomial standard errors are 0.3 points.
    assert crossed == pytest.approx(0.05, abs=0.0034)


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5), (0.0, 1.0), (0.5, 1.2), (0.8, 0.4)])
def test_looks_that_do_not_rise_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        stats.spending_bounds(fractions, 0.05)


def test_the_chance_to_pass_is_that_of_drawing_the_rest() -> None:
    random = np.random.default_rng(5)
    # Flat prior: the true mean is normal around the one seen; the rest is normal around it.
    truth = random.normal(-0.01, math.sqrt(0.1 / 300), 200_000)
    rest = random.normal(truth, np.sqrt(0.1 / 700))
    final = (300 * -0.01 + 700 * rest) / 1000

    found = stats.chance_to_pass(-0.01, 0.1, 300, 1000, -0.02)

    assert found == pytest.approx((final >= -0.02).mean(), abs=0.005)


def test_with_all_samples_seen_the_chance_is_none_or_all() -> None:
    assert stats.chance_to_pass([-0.03, -0.01], 0.1, 1000, 1000, -0.02).tolist() == [0.0, 1.0]


def test_capital_is_that_computed_by_hand() -> None:
    # Stakes sqrt(2 ln(1/alpha) / (s^2 t ln(t + 1))) with s^2 = 1/4 before anything is seen, at most 1/2 / null.
    first = math.sqrt(2 * math.log(20) / (0.25 * math.log(2)))
    assert first > 1
    mean = (0.5 + 0.6) / 2
    variance = (0.25 + (0.6 - mean) ** 2) / 2
    second = math.sqrt(2 * math.log(20) / (variance * 2 * math.log(3)))
    expected = [math.log(1 + 1 * 0.1), math.log(1 + 1 * 0.1) + math.log(1 + min(second, 1) * -0.2)]

    np.testing.assert_allclose(stats.log_capital([0.6, 0.3], 0.5, 0.05), expected)


def test_capital_seldom_becomes_a_fortune_if_there_is_nothing_to_win() -> None:
    random = np.random.default_rng(7)
    scores = random.beta(0.4, 0.4, (4000, 500))

    rich = stats.log_capital(scores, 0.5).max(axis=1) >= math.log(20)

    assert 0.005 < rich.mean() <= 0.05


def test_a_betting_interval_holds_at_all_times_and_shrinks() -> None:
    random = np.random.default_rng(11)
    missed, widths = 0, []
    for _ in range(150):
        low, high = stats.betting_interval(random.beta(2, 5, 400))
        missed += not low <= 2 / 7 <= high
        widths.append(high - low)

    assert missed <= 12
    assert 0.03 < np.mean(widths) < 0.08
    assert stats.betting_interval([]) == (0.0, 1.0)


def test_a_betting_interval_ends_where_capital_reaches_the_level() -> None:
    scores = np.random.default_rng(2).beta(2, 2, 200)
    low, high = stats.betting_interval(scores, 0.9)

    assert stats.log_capital(scores, low, 0.05).max() == pytest.approx(math.log(20), abs=1e-6)
    assert stats.log_capital(1 - scores, 1 - high, 0.05).max() == pytest.approx(math.log(20), abs=1e-6)


def test_scores_that_are_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.log_capital([0.5, 1.2], 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.betting_interval([-0.1])


def test_the_binomial_tail_is_that_of_the_beta_distribution() -> None:
    # What the e-value's last factor rests on.
    assert binom.cdf(7, 12, 0.5) == pytest.approx(beta(8, 5).sf(0.5))
