"""Corpus metrics are remade from what lm-eval keeps of each sample, and only where they give lm-eval's number."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tuneboard.compare import MetricScores, compare
from tuneboard.compare.corpus import scoring_of

Make = Callable[..., Any]
lm_eval = pytest.importorskip("lm_eval.api.metrics")

WORDS = (
    *("the", "cat", "sat", "on", "a", "mat", "while", "two", "dogs"),
    *("ran", "over", "green", "hills", "to", "find", "some", "water"),
)


def texts(seed: int, n: int = 40, damage: float = 0.2) -> list[list[Any]]:
    """References and predictions, damaged at random."""
    draw = random.Random(seed)
    pairs: list[list[Any]] = []
    for i in range(n):
        reference = [random.Random(i).choice(WORDS) for _ in range(8 + i % 5)]
        said = [word if draw.random() > damage else draw.choice(WORDS) for word in reference]
        pairs.append([" ".join(reference), " ".join(said)])
    return pairs


def rolling(seed: int, n: int = 60, scale: float = 1.0) -> list[list[float]]:
    """Log-probabilities and words."""
    sizes = np.random.default_rng(0).integers(5, 50, n)
    return [
        [-float(x) * scale, int(w)] for x, w in zip(np.random.default_rng(seed).gamma(5, sizes), sizes, strict=True)
    ]


def labels(seed: int, n: int = 80) -> list[list[int]]:
    draw = random.Random(seed)
    golds = [random.Random(i).randint(0, 1) for i in range(n)]
    return [[gold, gold if draw.random() < 0.7 else 1 - gold] for gold in golds]


def chances(seed: int, n: int = 30) -> list[list[Any]]:
    draw = np.random.default_rng(seed)
    return [[i % 4, draw.dirichlet(np.ones(4)).tolist()] for i in range(n)]


def from_pieces(
    metric: str, function: Callable[[list[Any]], float], *sides: list[Any], aggregation: str | None = None
) -> MetricScores:
    n = len(sides[0])
    empty = np.full((len(sides), n), np.nan)
    return MetricScores(
        metric=metric,
        filter="none",
        higher_is_better=True,
        reported=tuple(float(function([_tupled(one) for one in side])) for side in sides),
        values=empty,
        averaged=empty,
        details=tuple(tuple(side) for side in sides),
        aggregation=aggregation,
    )


def _tupled(piece: Any) -> Any:
    return tuple(piece) if isinstance(piece, list) else piece


CASES = [
    ("bleu", lm_eval.bleu, texts),
    ("chrf", lm_eval.chrf, texts),
    ("chrf++", lm_eval.chrfpp, texts),
    ("ter", lm_eval.ter, texts),
    ("word_perplexity", lm_eval.weighted_perplexity, rolling),
    ("byte_perplexity", lm_eval.weighted_perplexity, rolling),
    ("bits_per_byte", lm_eval.bits_per_byte, rolling),
    ("f1", lm_eval.f1_score, labels),
    ("mcc", lm_eval.matthews_corrcoef, labels),
]


@pytest.mark.parametrize(("metric", "function", "pieces"), CASES, ids=[case[0] for case in CASES])
def test_sums_give_lm_evals_number_for_all_samples_and_for_any_of_them(
    metric: str, function: Callable[[list[Any]], float], pieces: Callable[[int], list[Any]]
) -> None:
    sides = [pieces(1), pieces(2)]
    scoring = scoring_of(from_pieces(metric, function, *sides))

    assert not isinstance(scoring, str) and scoring.columns is not None and scoring.statistic is not None
    chosen = [3, 3, 7, 11, 12, 20, 21, 5, 5, 5, 0, 1]
    for side in range(2):
        expected = function([_tupled(sides[side][i]) for i in chosen])
        assert float(scoring.statistic(scoring.columns[side, chosen].sum(axis=0))) == pytest.approx(expected, rel=1e-9)


def test_several_references_are_those_of_sacrebleu() -> None:
    pieces = [[[reference, "the dogs ran over hills"], said] for reference, said in texts(1)]

    scoring = scoring_of(from_pieces("bleu", lm_eval.bleu, pieces, pieces))

    assert not isinstance(scoring, str)


def test_perplexity_of_plain_log_probabilities_is_no_mean() -> None:
    values = np.array([[piece[0] / 10 for piece in rolling(seed)] for seed in (1, 2)])
    reported = tuple(lm_eval.perplexity(list(row)) for row in values)

    scoring = scoring_of(MetricScores("perplexity", "none", False, reported, values, values))

    assert not isinstance(scoring, str) and scoring.values is None


def test_a_brier_score_is_a_mean_over_samples() -> None:
    scoring = scoring_of(from_pieces("brier_score", lm_eval.brier_score, chances(1), chances(2)))

    assert not isinstance(scoring, str) and scoring.values is not None


@pytest.mark.parametrize(("name", "scale"), [("rouge1", 1), ("rougeL", 100)])
def test_rouge_is_a_mean_over_samples(name: str, scale: int) -> None:
    scorers = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = scorers.RougeScorer([name])

    def mean(items: list[Any]) -> float:
        return scale * sum(scorer.score(ref, said)[name].fmeasure for ref, said in items) / len(items)

    scoring = scoring_of(from_pieces(name, mean, texts(1), texts(2)))

    assert not isinstance(scoring, str) and scoring.values is not None


@pytest.mark.parametrize("aggregation", [None, "their_own"])
def test_a_metric_that_is_made_in_an_unknown_way_is_not_compared(
    make_task: Make, make_scores: Make, aggregation: str | None
) -> None:
    values = {"base": [0.1, 0.2, 0.9], "mine": [0.3, 0.2, 0.8]}

    done = compare(make_scores(make_task("toy", values, reported=(0.2, 0.3), aggregation=aggregation))).candidates[0]

    assert done.tasks == ()
    assert "is not known" in done.reason
    assert aggregation is None or aggregation in done.reason


def test_a_number_that_pieces_do_not_give_is_not_compared() -> None:
    scores = from_pieces("bleu", lambda items: 12.5, texts(1), texts(2))

    assert isinstance(scoring_of(scores), str)


def test_corpus_metrics_are_compared_by_paired_resampling(make_task: Make, make_scores: Make) -> None:
    sides = {"base": texts(1, 120, 0.15), "mine": texts(2, 120, 0.35), "same": texts(3, 120, 0.15)}
    made = from_pieces("bleu", lm_eval.bleu, *sides.values())
    task = make_task(
        "translation",
        dict.fromkeys(sides, [float("nan")] * 120),
        metric="bleu",
        details=made.details,
        reported=made.reported,
    )

    comparison = compare(make_scores(task))
    worse, same = (one.tasks[0] for one in comparison.candidates)

    assert (worse.base, worse.candidate) == pytest.approx(made.reported[:2])
    assert worse.status == "regressed" and worse.effect.ci[1] < 0 and worse.effect.p < 0.01
    assert same.status == "inconclusive" and same.effect.p > 0.05
    assert (worse.fixed, worse.broke, worse.margin) == (None, None, 1.0)
    assert "whole corpus" in worse.effect.why
    assert worse.base_ci[0] < worse.base < worse.base_ci[1]
    assert dict(comparison.ranks[0].ranks) == {"base": 1, "same": 1, "mine": 3}


def test_perplexity_falls_where_it_is_better(make_task: Make, make_scores: Make) -> None:
    made = from_pieces("word_perplexity", lm_eval.weighted_perplexity, rolling(1), rolling(1, scale=0.8))
    task = make_task(
        "wiki",
        {"base": [float("nan")] * 60, "mine": [float("nan")] * 60},
        metric="word_perplexity",
        higher_is_better=False,
        details=made.details,
        reported=made.reported,
    )

    row = compare(make_scores(task)).candidates[0].tasks[0]

    assert row.status == "improved" and row.delta < 0 < row.gain
    assert row.margin == pytest.approx(row.base / 100)
    assert row.bound == row.effect.bounds[1]


def test_a_sample_that_failed_leaves_every_candidates_corpus(make_task: Make, make_scores: Make) -> None:
    base, mine = rolling(1), rolling(2)
    made = from_pieces("word_perplexity", lm_eval.weighted_perplexity, base, mine)
    short = lm_eval.weighted_perplexity(mine[1:])
    task = make_task(
        "wiki",
        {"base": [float("nan")] * 60, "mine": [float("nan")] * 60},
        metric="word_perplexity",
        details=(made.details[0], (None, *made.details[1][1:])),
        reported=(made.reported[0], short),
    )

    row = compare(make_scores(task)).candidates[0].tasks[0]

    assert (row.n, row.left_out) == (59, 1)
    assert (row.base, row.candidate) == pytest.approx((lm_eval.weighted_perplexity(base[1:]), short))
