"""Statistics of single scores against SciPy, statsmodels, lm-eval and numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.proportion import proportion_confint

from tuneboard import stats

SCORES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60)
COUNTS = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.floats(0.5, 0.999))
def test_wilson_interval_equals_statsmodels(counts: tuple[int, int], confidence: float) -> None:
    expected = proportion_confint(*counts, alpha=1 - confidence, method="wilson")

    assert stats.wilson_interval(*counts, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_of_8_in_10_is_the_one_worked_out_by_hand() -> None:
    # centre (0.8 + 3.8415/20) / 1.38415 = 0.71674, half width 1.95996/1.38415 * sqrt(0.016 + 3.8415/400) = 0.22659
    assert stats.wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)


def test_wilson_interval_ends_at_0_and_1_exactly() -> None:
    assert stats.wilson_interval(0, 164)[0] == 0.0
    assert stats.wilson_interval(164, 164)[1] == 1.0
    assert stats.wilson_interval(0, 164)[1] > 0


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes of"):
        stats.wilson_interval(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95])
def test_a_confidence_outside_0_to_1_is_refused(confidence: float) -> None:
    for interval in (
        lambda: stats.wilson_interval(1, 2, confidence),
        lambda: stats.mean_interval([1.0, 2.0], confidence),
        lambda: stats.group_interval(0.5, 0.1, confidence),
    ):
        with pytest.raises(ValueError, match="confidence"):
            interval()


@given(SCORES)
def test_stderr_of_mean_equals_scipy_and_lm_eval(values: list[float]) -> None:
    mean_stderr = pytest.importorskip("lm_eval.api.metrics").mean_stderr

    assert stats.stderr_of_mean(values) == pytest.approx(reference.sem(values), abs=1e-9)
    assert stats.stderr_of_mean(values) == pytest.approx(mean_stderr(values), abs=1e-9)


@given(SCORES.filter(lambda values: np.std(values) > 1e-3), st.floats(0.5, 0.999))
def test_mean_interval_equals_scipy(values: list[float], confidence: float) -> None:
    expected = reference.t.interval(confidence, len(values) - 1, np.mean(values), reference.sem(values))

    assert stats.mean_interval(values, confidence) == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_one_value_has_no_standard_error() -> None:
    assert stats.stderr_of_mean([0.5]) is None
    assert stats.mean_interval([0.5]) is None
    assert stats.single_score([0.5]) == (None, None)
    assert stats.single_score([]) == (None, None)
    assert stats.bootstrap_stderr([1], sum) is None
    assert stats.bootstrap_stderr_of_sums([[1]], lambda sums: sums[:, 0]) is None


def test_binary_scores_get_wilson_and_others_student() -> None:
    binary, graded = [1.0, 0.0, 1.0, True], [0.2, 0.9, 0.5, 0.0]

    assert stats.single_score(binary) == (stats.stderr_of_mean(binary), stats.wilson_interval(3, 4))
    assert stats.single_score(graded) == (stats.stderr_of_mean(graded), stats.mean_interval(graded))


def test_scores_that_are_all_right_still_have_a_width() -> None:
    stderr, (low, high) = stats.single_score([1] * 20)

    assert stderr == 0
    assert (low, high) == (pytest.approx(0.8388, abs=1e-4), 1.0)


def test_wilson_intervals_cover_the_truth_as_often_as_they_say() -> None:
    n, truth = 164, 0.05
    covered = [low <= truth <= high for low, high in (stats.wilson_interval(c, n) for c in range(n + 1))]
    probability = reference.binom.pmf(range(n + 1), n, truth) @ np.array(covered)

    assert 0.93 < probability < 0.98


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(2, 2000)), min_size=1, max_size=20))
def test_pooled_stderr_equals_lm_eval(tasks: list[tuple[float, int]]) -> None:
    metrics = pytest.importorskip("lm_eval.api.metrics")
    stderrs, sizes = [each[0] for each in tasks], [each[1] for each in tasks]

    assert stats.pooled_stderr(stderrs, sizes) == pytest.approx(metrics.pooled_sample_stderr(stderrs, sizes), abs=1e-12)
    assert stats.unweighted_stderr(stderrs) == pytest.approx(metrics.unweighted_mean_stderr(stderrs), abs=1e-12)


def test_pooled_stderr_of_tasks_with_one_mean_is_near_that_of_all_samples_together() -> None:
    first, second = [0, 1] * 50, [0, 1] * 200
    pooled = stats.pooled_stderr([stats.stderr_of_mean(first), stats.stderr_of_mean(second)], [100, 400])

    assert pooled == pytest.approx(stats.stderr_of_mean(first + second), rel=2e-3)


def test_groups_without_tasks_or_freedom_are_told_apart() -> None:
    assert stats.pooled_stderr([0.0, 0.0], [1, 1]) is None
    with pytest.raises(ValueError, match="expected one each"):
        stats.pooled_stderr([0.1], [1, 2])
    with pytest.raises(ValueError, match="at least one"):
        stats.unweighted_stderr([])


def test_group_interval_is_two_normal_standard_errors_wide() -> None:
    assert stats.group_interval(0.5, 0.01) == pytest.approx((0.5 - 0.0195996, 0.5 + 0.0195996), abs=1e-7)


def test_bootstrap_stderr_of_a_mean_is_near_the_closed_form() -> None:
    values = np.random.default_rng(1).normal(size=400).tolist()

    found = stats.bootstrap_stderr(values, lambda items: sum(items) / len(items), iterations=1000, seed=3)

    assert found == pytest.approx(stats.stderr_of_mean(values), rel=0.08)


def test_bootstrap_of_sums_equals_the_bootstrap_of_items() -> None:
    random = np.random.default_rng(2)
    pairs = list(zip(-random.gamma(5, 9, 300), random.integers(5, 40, 300), strict=True))

    def perplexity(items: list[tuple[float, int]]) -> float:
        return math.exp(-sum(each[0] for each in items) / sum(each[1] for each in items))

    by_items = stats.bootstrap_stderr(pairs, perplexity, iterations=300, seed=5)
    by_sums = stats.bootstrap_stderr_of_sums(
        pairs, lambda sums: np.exp(-sums[:, 0] / sums[:, 1]), iterations=300, seed=5
    )

    assert by_sums == pytest.approx(by_items, rel=1e-9)


def test_bootstrap_is_decided_by_its_seed_and_leaves_the_callers_random_numbers_alone() -> None:
    np.random.seed(0)
    state = np.random.get_state()[1].tolist()
    first = [stats.bootstrap_stderr(range(50), np.median, iterations=50, seed=seed) for seed in (1, 1, 2)]

    assert first[0] == first[1] != first[2]
    assert np.random.get_state()[1].tolist() == state


def test_bootstrap_draws_less_often_from_large_tasks() -> None:
    calls = itertools.count()
    stats.bootstrap_stderr(range(5000), lambda items: next(calls), iterations=1000)

    assert next(calls) == stats.MAX_DRAWS // 5000


def test_bootstrap_needs_two_iterations() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        stats.bootstrap_stderr([1, 2], sum, iterations=1)


@pytest.mark.parametrize(
    ("n", "c", "k"), [(n, c, k) for n in range(1, 7) for c in range(n + 1) for k in range(1, n + 1)]
)
def test_pass_at_k_is_the_share_of_draws_with_a_correct_sample(n: int, c: int, k: int) -> None:
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))

    assert stats.pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_pass_at_k_agrees_with_the_product_form_of_the_paper_where_factorials_are_huge() -> None:
    n, c, k = 200, 13, 100

    assert stats.pass_at_k(n, c, k) == pytest.approx(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(1, 0, 2), (5, 6, 1), (5, -1, 1), (5, 1, 0)])
def test_pass_at_k_refuses_numbers_that_do_not_fit(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= correct <= samples"):
        stats.pass_at_k(n, c, k)


def test_importing_statistics_loads_neither_numpy_nor_scipy() -> None:
    script = "import sys, tuneboard.stats; sys.exit(bool({'numpy', 'scipy'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
