from __future__ import annotations

import random

import numpy as np
import pytest

from tuneboard import stats

NAMES = ["red", "green", "blue", "grey"]


def drawn(seed: int, n: int = 90, unknown: bool = False) -> tuple[list[int], list[int]]:
    """Right labels and answers; ``grey`` is never meant, and place 4 is an answer that is no label."""
    draw = random.Random(seed)
    gold = [draw.choice([0, 0, 0, 1, 2]) for _ in range(n)]
    return gold, [one if draw.random() < 0.5 else draw.randrange(5 if unknown else 4) for one in gold]


@pytest.mark.parametrize("unknown", [False, True])
def test_scores_of_labels_and_their_averages_are_scikit_learns(unknown: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for seed in range(4):
        gold, said = drawn(seed, unknown=unknown)
        matrix = stats.confusion(gold, said, 4)
        whole = sklearn.confusion_matrix(gold, said, labels=[0, 1, 2, 3, 4])
        assert matrix == whole[:4].tolist()
        rates = sklearn.precision_recall_fscore_support(gold, said, labels=[0, 1, 2, 3], zero_division=0)
        found = stats.label_scores(matrix, NAMES)
        assert [one.label for one in found] == NAMES
        for place, field in enumerate(("precision", "recall", "f1", "support")):
            assert [getattr(one, field) for one in found] == pytest.approx(list(rates[place]))
        for one in stats.average_scores(matrix, NAMES):
            expected = sklearn.precision_recall_fscore_support(
                gold, said, labels=[0, 1, 2, 3], average=one.label, zero_division=0
            )
            assert (one.precision, one.recall, one.f1) == pytest.approx(expected[:3]), one.label


@pytest.mark.parametrize("unknown", [False, True])
def test_scores_of_sums_are_scikit_learns_for_all_samples_and_for_parts(unknown: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    gold, said = drawn(7, unknown=unknown)
    counts = stats.label_counts(gold, said, 4)
    for part in (slice(None), slice(0, 11), slice(0, 2)):
        sums = counts[part].sum(axis=0)
        assert float(stats.matthews(sums)) == pytest.approx(sklearn.matthews_corrcoef(gold[part], said[part]))
        expected = sklearn.f1_score(gold[part], said[part], average="macro", zero_division=0)
        assert float(stats.macro_f1(sums)) == pytest.approx(expected)
    both = stats.matthews(np.stack([counts.sum(axis=0), counts[:11].sum(axis=0)]))
    assert both.shape == (2,)


def test_micro_f1_is_accuracy_where_every_answer_is_a_label() -> None:
    gold, said = drawn(3)
    (micro,) = (one for one in stats.average_scores(stats.confusion(gold, said, 4), NAMES) if one.label == "micro")
    assert micro.f1 == pytest.approx(sum(a == b for a, b in zip(gold, said, strict=True)) / len(gold))
