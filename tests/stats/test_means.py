"""Paired differences of scores that are not binary against SciPy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from tuneboard import stats

DIFFERENCES = st.lists(st.floats(-10, 10), min_size=3, max_size=40).filter(lambda values: np.std(values) > 1e-3)


@given(DIFFERENCES, st.floats(-1, 1))
def test_paired_t_equals_scipy(values: list[float], null: float) -> None:
    found = stats.paired_t(values)

    for alternative, p in (("greater", found.p_greater(null)), ("less", found.p_less(null))):
        assert p == pytest.approx(reference.ttest_1samp(values, null, alternative=alternative).pvalue, abs=1e-9)
    assert found.p_value() == pytest.approx(reference.ttest_1samp(values, 0).pvalue, abs=1e-9)
    expected = reference.ttest_1samp(values, 0).confidence_interval(0.9)
    assert found.interval(0.9) == pytest.approx(tuple(expected), rel=1e-7, abs=1e-9)


def test_differences_that_are_all_equal_have_no_width() -> None:
    assert stats.paired_t([0.0, 0.0, 0.0]).p_value() == 1.0
    assert stats.paired_t([0.1, 0.1]).p_less() == 1.0
    assert stats.paired_t([0.1, 0.1]).p_greater() == 0.0
    assert stats.paired_t([0.5, 0.5, 0.5]).interval() == (0.5, 0.5)


def test_clustered_errors_equal_statsmodels() -> None:
    random = np.random.default_rng(4)
    clusters = random.integers(0, 25, 300)
    values = random.normal(0.1, 1, 300) + random.normal(0, 1, 25)[clusters]
    expected = sm.OLS(values, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)

    found = stats.clustered_t(values, clusters)

    assert (found.mean, found.stderr) == pytest.approx((expected.params[0], expected.bse[0]), rel=1e-10)
    assert found.p_value() == pytest.approx(expected.pvalues[0], rel=1e-9)
    assert found.interval() == pytest.approx(tuple(expected.conf_int()[0]), rel=1e-9)
    assert found.stderr > stats.paired_t(values).stderr


def test_clusters_may_have_any_names() -> None:
    values = [0.0, 1.0, 0.5, 0.25]

    assert stats.clustered_t(values, ["a", "b", "a", "c"]) == stats.clustered_t(values, [7, 1, 7, 3])


def test_the_error_of_a_clustered_score_is_that_of_its_clusters() -> None:
    values, clusters = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b", "c", "c"]

    stderr, interval = stats.clustered_score(values, clusters)

    # Each cluster answers alike: as if there were three samples.
    assert stderr == pytest.approx(stats.stderr_of_mean([1.0, 0.0, 1.0]))
    assert interval == pytest.approx(stats.mean_interval([1.0, 0.0, 1.0]))
    assert stats.clustered_score([1.0] * 6, clusters) == (0.0, stats.wilson_interval(3, 3))


def test_too_little_to_estimate_from_is_refused() -> None:
    with pytest.raises(ValueError, match="1 differences"):
        stats.paired_t([0.5])
    with pytest.raises(ValueError, match="1 clusters"):
        stats.clustered_t([0.5, 0.1], ["a", "a"])
    with pytest.raises(ValueError, match="2 clusters for 3 differences"):
        stats.clustered_t([0.5, 0.1, 0.2], ["a", "b"])


def test_a_mean_of_two_equal_weights_is_welchs() -> None:
    random = np.random.default_rng(8)
    first, second = random.normal(0, 1, 12), random.normal(0, 3, 40)
    welch = reference.ttest_ind(first, -second, equal_var=False)

    found = stats.weighted_mean([stats.paired_t(first), stats.paired_t(second)], [1, 1])

    assert found.mean == pytest.approx((first.mean() + second.mean()) / 2)
    assert found.freedom == pytest.approx(welch.df)
    assert found.p_value() == pytest.approx(welch.pvalue)


def test_weights_by_size_give_the_mean_of_all_samples() -> None:
    first, second = [0.0, 1.0, 1.0], [0.5, 0.25, 0.0, 0.0, 1.0]
    parts = [stats.paired_t(first), stats.paired_t(second)]

    assert stats.weighted_mean(parts, [3, 5]).mean == pytest.approx(np.mean(first + second))


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_permutation_of_few_samples_tries_every_sign_as_scipy_does(alternative: str) -> None:
    random = np.random.default_rng(5)
    # Multiples of 1/4 give ties.
    table = np.round(random.normal(0.3, 1, (11, 4)) * 4) / 4
    greater, less = stats.permutation_test(table)

    for j, p in enumerate(greater if alternative == "greater" else less):
        expected = reference.permutation_test(
            (table[:, j],), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        )
        assert p == pytest.approx(expected.pvalue)


def test_permutation_of_many_samples_is_near_the_t_test_and_decided_by_its_seed() -> None:
    random = np.random.default_rng(6)
    table = random.normal(0.08, 1, (500, 3))
    greater, less = stats.permutation_test(table, seed=1)

    for j in range(3):
        assert greater[j] == pytest.approx(stats.paired_t(table[:, j]).p_greater(), abs=0.02)
    assert (greater + less).tolist() == pytest.approx([1.0] * 3, abs=1e-3)
    assert stats.permutation_test(table, seed=1)[0].tolist() == greater.tolist()
    assert stats.permutation_test(table, seed=2)[0].tolist() != greater.tolist()


def test_permutation_never_gives_zero() -> None:
    greater, less = stats.permutation_test(np.ones((60, 1)), patterns=99)

    assert (greater[0], less[0]) == (0.01, 1.0)


def test_permutation_of_no_difference_is_one() -> None:
    greater, less = stats.permutation_test(np.zeros((30, 1)))

    assert (greater[0], less[0]) == (1.0, 1.0)
