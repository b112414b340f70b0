from __future__ import annotations

import pytest

from tuneboard.compare import TOO_LARGE, default_margin


@pytest.mark.parametrize(
    ("task", "n_docs", "margin"),
    [
        ("mmlu", 14042, 0.007),
        ("hellaswag", 10042, 0.008),
        ("gsm8k", 1319, 0.023),
        ("truthfulqa_mc2", 817, 0.03),
        ("humaneval", 164, 0.064),
        # Others from their size: 2.4865 x sqrt(0.11 / n), of the whole task whatever part of it was asked.
        ("arc_challenge", 1172, 0.0241),
        ("mmlu_anatomy", 135, 0.0710),
        ("tiny", 3, 0.25),
    ],
)
def test_margins_are_what_a_benchmark_supports(task: str, n_docs: int, margin: float) -> None:
    found = default_margin(task, "acc", n_docs, unit=True, base=0.5)

    assert found == pytest.approx(margin, abs=5e-5)
    assert found < TOO_LARGE


@pytest.mark.parametrize(
    ("metric", "base", "margin"),
    [("bleu", 30.0, 1.0), ("bleu_max", 6.2, 1.0), ("rougeL_diff", -3.0, 1.0), ("word_perplexity", 12.0, 0.12)],
)
def test_scores_without_the_scale_of_0_to_1_have_margins_of_their_own(metric: str, base: float, margin: float) -> None:
    assert default_margin("any", metric, 500, unit=False, base=base) == pytest.approx(margin)


def test_f1_of_a_corpus_is_on_the_scale_of_0_to_1() -> None:
    assert default_margin("any", "f1", 817, unit=False, base=0.7) == pytest.approx(0.0289, abs=5e-5)


def test_a_base_of_zero_without_a_scale_has_no_margin() -> None:
    assert default_margin("any", "score", 500, unit=False, base=0.0) is None
