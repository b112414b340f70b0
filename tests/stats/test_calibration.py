from __future__ import annotations

import numpy as np
import pytest

from tuneboard import stats


def test_probabilities_of_choices_are_their_softmax() -> None:
    logprobs = [-700.0, -701.5, -900.0]
    assert stats.choice_probabilities(logprobs) == pytest.approx(
        [1 / (1 + np.exp(-1.5)), np.exp(-1.5) / (1 + np.exp(-1.5)), 0.0], rel=1e-12, abs=1e-80
    )
    assert sum(stats.choice_probabilities([-1.0, -2.0, -float("inf")])) == pytest.approx(1.0)


def drawn(n: int = 400, seed: int = 0) -> tuple[list[list[float]], list[int]]:
    draw = np.random.default_rng(seed)
    rows = draw.dirichlet([1.0, 1.0, 1.0], n)
    gold = [int(draw.choice(3, p=row)) for row in rows]
    return rows.tolist(), gold


def test_brier_score_and_log_loss_are_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rows, gold = drawn()
    found = stats.calibration_of(rows, gold)
    assert found.log_loss == pytest.approx(sklearn.log_loss(gold, rows, labels=[0, 1, 2]))
    one_hot = np.eye(3)[gold]
    assert found.brier == pytest.approx(float(((np.asarray(rows) - one_hot) ** 2).sum(axis=1).mean()))


def test_the_calibration_error_weighs_bins_of_equal_mass() -> None:
    # 20 answers in two bins of ten: 0.6 sure and 5 right, 0.9 sure and 9 right.
    rows = [[0.6, 0.4]] * 10 + [[0.9, 0.1]] * 10
    gold = [0] * 5 + [1] * 5 + [0] * 9 + [1]
    found = stats.calibration_of(rows, gold)
    assert [(one.n, one.low, one.high, one.accuracy) for one in found.bins] == [
        (10, 0.6, 0.6, 0.5),
        (10, 0.9, 0.9, 0.9),
    ]
    assert found.ece == pytest.approx(0.5 * abs(0.5 - 0.6))
    assert found.bins[0].ci == stats.wilson_interval(5, 10)
    assert found.confidence == pytest.approx(0.75)


def test_bins_are_as_even_as_they_can_be_and_never_tiny() -> None:
    assert [one.n for one in stats.reliability_bins([i / 47 for i in range(47)], [True] * 47)] == [12, 12, 12, 11]
    assert [one.n for one in stats.reliability_bins([0.5] * 3, [True, False, True])] == [3]
    assert len(stats.reliability_bins([0.5] * 1000, [True] * 1000)) == 15


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large() -> None:
    rows, gold = drawn(4000)
    sure = [[p**4 / sum(q**4 for q in row) for p in row] for row in rows]
    assert stats.calibration_of(rows, gold).ece < 0.03
    assert stats.calibration_of(sure, gold).ece > 0.15


def test_the_most_confident_answers_are_selected_first() -> None:
    rows = [[0.5 + i / 100, 0.5 - i / 100] for i in range(1, 11)]
    gold = [1] * 5 + [0] * 5  # the five least sure are wrong
    found = stats.calibration_of(rows, gold)
    by_coverage = {one.coverage: one for one in found.selective}
    assert (by_coverage[1.0].n, by_coverage[1.0].accuracy) == (10, 0.5)
    assert (by_coverage[0.5].n, by_coverage[0.5].accuracy, by_coverage[0.5].least_confidence) == (5, 1.0, 0.56)
    # Risks at 1 to 10 answers: five times 0, then 1/6, 2/7, 3/8, 4/9, 5/10.
    assert found.aurc == pytest.approx((1 / 6 + 2 / 7 + 3 / 8 + 4 / 9 + 5 / 10) / 10)


def test_nothing_to_weigh_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        stats.calibration_of([], [])
    with pytest.raises(ValueError, match="2 samples and 1"):
        stats.calibration_of([[1.0, 0.0], [0.5, 0.5]], [0])
