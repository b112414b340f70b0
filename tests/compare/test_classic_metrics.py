"""Metrics of the classic benchmarks are resampled as their own scorers make them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tuneboard.compare import MetricScores, compare, default_margin
from tuneboard.compare.corpus import scoring_of
from tuneboard.gates.scales import is_unit
from tuneboard.metrics import correlation, find_metric

Make = Callable[..., Any]


def rated(seed: int, n: int = 90, noise: float = 1.5) -> list[list[float]]:
    draw = random.Random(seed)
    labels = [round(random.Random(i).random() * 5, 1) for i in range(n)]
    return [[label, label + draw.gauss(0, noise)] for label in labels]


def three_labels(seed: int, n: int = 50) -> list[list[int]]:
    draw = random.Random(seed)
    golds = [random.Random(i).choice([0, 0, 0, 1, 1, 2]) for i in range(n)]
    return [[gold, gold if draw.random() < 0.6 else draw.randrange(3)] for gold in golds]


def from_pieces(metric: str, function: Callable[[list[Any]], float], *sides: list[Any], **named: Any) -> MetricScores:
    empty = np.full((len(sides), len(sides[0])), np.nan)
    return MetricScores(
        metric=metric,
        filter="none",
        higher_is_better=True,
        reported=tuple(float(function(side)) for side in sides),
        values=empty,
        averaged=empty,
        details=tuple(tuple(side) for side in sides),
        **named,
    )


def their_cb_f1(items: list[Any]) -> float:
    return float(pytest.importorskip("lm_eval.tasks.super_glue.cb.aggregate").cb_multi_fi(items))


def test_pearson_of_sums_is_that_of_any_samples() -> None:
    sides = [rated(1), rated(2)]
    scoring = scoring_of(from_pieces("pearson", correlation.pearson, *sides))

    assert not isinstance(scoring, str) and scoring.columns is not None and scoring.statistic is not None
    chosen = [3, 3, 7, 11, 12, 20, 21, 5, 5, 5, 0, 1]
    for side in range(2):
        expected = correlation.pearson([sides[side][i] for i in chosen])
        assert float(scoring.statistic(scoring.columns[side, chosen].sum(axis=0))) == pytest.approx(expected, rel=1e-9)


def test_spearman_is_pearson_of_the_ranks_and_leaves_out_failed_samples() -> None:
    whole = rated(1)
    scores = from_pieces(
        "spearman", lambda side: correlation.spearman([one for one in side if one]), whole, [None, *whole[1:]]
    )
    scoring = scoring_of(scores)

    assert not isinstance(scoring, str) and scoring.columns is not None and scoring.statistic is not None
    assert np.isnan(scoring.columns[1, 0]).all()
    assert float(scoring.statistic(scoring.columns[0].sum(axis=0))) == pytest.approx(scores.reported[0])


def test_f1_of_three_labels_is_lm_evals_even_where_a_label_does_not_occur() -> None:
    sides = [three_labels(1), three_labels(2)]
    scoring = scoring_of(from_pieces("f1", their_cb_f1, *sides, aggregation="cb_multi_fi"))

    assert not isinstance(scoring, str) and scoring.columns is not None and scoring.statistic is not None
    without = [i for i, (gold, said) in enumerate(sides[0]) if 2 not in (gold, said)]
    for chosen in ([3, 3, 7, 11, 12, 20], without):
        found = float(scoring.statistic(scoring.columns[0, chosen].sum(axis=0)))
        assert found == pytest.approx(their_cb_f1([sides[0][i] for i in chosen]), rel=1e-9)


def test_a_worse_rating_regresses(make_task: Make, make_scores: Make) -> None:
    sides = {"base": rated(1, 300, 0.5), "mine": rated(2, 300, 4.0)}
    made = from_pieces("pearson", correlation.pearson, *sides.values())
    task = make_task(
        "stsb",
        {name: [float("nan")] * 300 for name in sides},
        metric="pearson",
        details=made.details,
        reported=made.reported,
    )

    row = compare(make_scores(task)).candidates[0].tasks[0]

    assert row.status == "regressed" and row.effect.ci[1] < 0
    assert row.margin == pytest.approx(default_margin("stsb", "f1", 300, unit=False, base=0.5))


def test_shares_in_per_cent_have_margins_in_per_cent(make_task: Make, make_scores: Make) -> None:
    draw = random.Random(0)
    values = {name: [100.0 * (draw.random() < 0.5) for _ in range(200)] for name in ("base", "mine")}
    shares = {name: [one / 100 for one in side] for name, side in values.items()}

    (points,) = compare(make_scores(make_task("squadv2", values, metric="exact"))).candidates[0].tasks
    (ones,) = compare(make_scores(make_task("other", shares, metric="exact"))).candidates[0].tasks

    assert points.margin == pytest.approx(100 * ones.margin)
    assert points.delta == pytest.approx(100 * ones.delta)


def test_a_score_that_is_no_share_keeps_a_margin_relative_to_its_base(make_task: Make, make_scores: Make) -> None:
    values = {"base": [20.0, 30.0, 40.0], "mine": [21.0, 31.0, 41.5]}

    (row,) = compare(make_scores(make_task("speed", values, metric="words"))).candidates[0].tasks

    assert row.margin == pytest.approx(0.3)


def test_rouge_from_0_to_1_has_a_margin_of_one_point() -> None:
    assert default_margin("samsum", "rougeL", 819, unit=True, base=0.3) == pytest.approx(0.01)
    assert default_margin("any", "rougeL", 819, unit=False, base=30.0) == pytest.approx(1.0)
    assert default_margin("truthfulqa_gen", "rougeL_acc", 817, unit=True, base=0.3) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("metric", "task", "unit"),
    [
        ("f1", "record", True),
        ("f1", "squadv2", False),
        ("exact_match,none", "squad", False),
        ("pass_at_1", "mbpp", True),
        ("pearson", "stsb", True),
        ("mcc", "cola", True),
        ("rougeL", "samsum", False),
        ("bleu", "wmt16-de-en", False),
    ],
)
def test_gates_know_which_scores_end_at_1(metric: str, task: str, unit: bool) -> None:
    assert is_unit(metric, task) is unit


def of_labels(base: list[int], mine: list[int], gold: list[int]) -> dict[str, Any]:
    """Arguments of a task of two labels whose metric is macro F1, kept as the place meant, the one said, and 2."""
    metric = find_metric("f1_macro")
    assert metric is not None and metric.corpus is not None
    sides = [[[meant, told, 2] for meant, told in zip(gold, said, strict=True)] for said in (base, mine)]
    made = from_pieces("f1_macro", metric.corpus, *sides)
    return {"metric": "f1_macro", "details": made.details, "reported": made.reported}


@pytest.mark.parametrize("n", [2, 8, 60])
def test_corpus_scores_without_a_change_leave_the_doubt_that_accuracy_leaves(
    n: int, make_task: Make, make_scores: Make
) -> None:
    gold = [place % 2 for place in range(n)]
    nothing = {name: [float("nan")] * n for name in ("base", "mine")}
    task = make_task("tickets", nothing, **of_labels(gold, gold, gold))
    of_acc = make_task("tickets", {name: [1.0] * n for name in nothing})

    row, acc = (compare(make_scores(one)).candidates[0].tasks[0] for one in (task, of_acc))

    assert row.delta == 0 and row.effect.mde > 0
    assert 0.6 * acc.effect.ci[1] < row.effect.ci[1] < 10 * acc.effect.ci[1]
    assert row.effect.ci[0] == -row.effect.ci[1] and row.base_ci is not None and row.base_ci[0] < row.base_ci[1]
    assert row.status == acc.status


def test_two_samples_do_not_settle_a_corpus_score(make_task: Make, make_scores: Make) -> None:
    nothing = {name: [float("nan")] * 2 for name in ("base", "mine")}
    (row,) = compare(make_scores(make_task("tiny", nothing, **of_labels([0, 0], [0, 1], [0, 1])))).candidates[0].tasks

    assert row.delta > 0.5 and row.status == "inconclusive"
    assert row.effect.bounds[0] < -0.5 and row.effect.test == "paired swaps, t interval"


def test_many_changes_are_resampled(make_task: Make, make_scores: Make) -> None:
    draw = random.Random(0)
    gold = [place % 2 for place in range(400)]
    base, mine = ([place if draw.random() < share else 1 - place for place in gold] for share in (0.9, 0.6))
    nothing = {name: [float("nan")] * 400 for name in ("base", "mine")}
    (row,) = compare(make_scores(make_task("many", nothing, **of_labels(base, mine, gold)))).candidates[0].tasks

    assert row.status == "regressed" and row.effect.test == "paired swaps, BCa interval"
    assert row.effect.ci[1] - row.effect.ci[0] < 0.15
