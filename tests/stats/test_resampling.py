"""Paired resampling against SciPy and against loops over samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as reference

from tuneboard import stats


def test_bca_equals_scipy_on_the_same_replicates() -> None:
    values = np.random.default_rng(1).exponential(1.0, 60)
    scipys = reference.bootstrap((values,), np.mean, n_resamples=5000, method="BCa", confidence_level=0.9, rng=2)
    ours = stats.bootstrap_means(values[:, None])[0]

    same = stats.Bootstrap(ours.estimate, scipys.bootstrap_distribution, ours.acceleration)

    assert same.interval(0.9) == pytest.approx(tuple(scipys.confidence_interval), rel=1e-6)


def test_bca_on_its_own_replicates_is_near_scipys() -> None:
    values = np.random.default_rng(3).exponential(1.0, 80)
    scipys = reference.bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=4).confidence_interval

    ours = stats.bootstrap_means(values[:, None], seed=5, resamples=20000)[0]

    assert ours.interval() == pytest.approx(tuple(scipys), rel=0.02)
    assert ours.stderr == pytest.approx(values.std() / math.sqrt(80), rel=0.03)


def test_bca_leans_to_the_side_of_the_skew() -> None:
    values = np.random.default_rng(7).lognormal(0, 1, 60)
    low, high = stats.bootstrap_means(values[:, None])[0].interval()

    assert high - values.mean() > values.mean() - low


def test_a_distribution_of_one_value_is_its_own_interval() -> None:
    assert stats.bootstrap_means(np.full((10, 1), 0.5))[0].interval() == (0.5, 0.5)


def perplexity(sums: np.ndarray) -> np.ndarray:
    return np.exp(-sums[..., 0] / sums[..., 1])


@pytest.fixture
def pieces() -> np.ndarray:
    """Log-probabilities and words of 200 texts, of a base and of two candidates."""
    random = np.random.default_rng(9)
    words = random.integers(5, 60, 200)
    base = -random.gamma(5, words / 2)
    return np.stack([np.stack([base * scale, words], axis=1) for scale in (1.0, 0.97, 1.2)])


def test_corpus_scores_and_what_is_left_without_a_sample_equal_a_loop(pieces: np.ndarray) -> None:
    found = stats.resample_scores(pieces, perplexity, resamples=50)

    for candidate in range(3):
        table = pieces[candidate]
        assert found.estimates[candidate] == pytest.approx(math.exp(-table[:, 0].sum() / table[:, 1].sum()))
        expected = [perplexity(np.delete(table, i, axis=0).sum(axis=0)) for i in (0, 77, 199)]
        assert found.left_out[candidate][[0, 77, 199]] == pytest.approx(expected)


def test_all_candidates_see_the_same_resamples_so_that_what_they_share_cancels(pieces: np.ndarray) -> None:
    found = stats.resample_scores(pieces, perplexity, seed=1)
    paired = found.difference(1, 0)
    alone = math.hypot(found.single(0).stderr, found.single(1).stderr)

    assert paired.stderr < alone / 10
    assert paired.estimate == pytest.approx(found.estimates[1] - found.estimates[0])
    low, high = paired.interval()
    assert low < paired.estimate < high < 0


def test_resampled_errors_of_a_mean_are_the_closed_form() -> None:
    random = np.random.default_rng(2)
    table = np.stack([random.normal(0, 1, 300), np.ones(300)], axis=1)[None]
    found = stats.resample_scores(table, lambda sums: sums[..., 0] / sums[..., 1], resamples=4000)

    assert found.single(0).stderr == pytest.approx(table[0, :, 0].std() / math.sqrt(300), rel=0.05)
    assert found.single(0).acceleration == pytest.approx(
        reference.skew(table[0, :, 0]) / (6 * math.sqrt(300)), rel=0.05, abs=1e-4
    )


def test_swapping_sides_equals_scipys_permutation_test() -> None:
    random = np.random.default_rng(11)
    words = random.integers(5, 20, 12)
    base = np.stack([-random.gamma(5, words), words], axis=1)
    candidate = np.stack([base[:, 0] + random.normal(1.5, 3, 12), words], axis=1)

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(-b.sum() / words.sum()) - math.exp(-a.sum() / words.sum())

    expected = {
        side: reference.permutation_test(
            (base[:, 0], candidate[:, 0]),
            statistic,
            permutation_type="samples",
            n_resamples=np.inf,
            alternative=side,
            vectorized=False,
        ).pvalue
        for side in ("greater", "less")
    }

    found = stats.swap_test(base, candidate, perplexity, patterns=19999)

    assert found == pytest.approx((expected["greater"], expected["less"]), abs=0.012)


def test_swapping_equal_sides_says_nothing() -> None:
    table = np.stack([-np.arange(1.0, 21), np.full(20, 3.0)], axis=1)

    assert stats.swap_test(table, table, perplexity) == (1.0, 1.0)
