import pytest

from tuneboard.headline import headline_metric
from tuneboard.records import MetricValue


def metric(name: str, filter_name: str = "none") -> MetricValue:
    return MetricValue(name, filter_name, 0.5, None, None, True)


ACCURACIES = [metric("acc"), metric("acc_norm")]


@pytest.mark.parametrize(
    ("task", "metrics", "expected"),
    [
        ("mmlu_anatomy", ACCURACIES, ("acc", "none")),
        ("hellaswag", ACCURACIES, ("acc_norm", "none")),
        ("arc_challenge", ACCURACIES, ("acc_norm", "none")),
        ("truthfulqa_mc2", [metric("acc")], ("acc", "none")),
        ("truthfulqa_gen", [metric("bleu_max"), metric("bleu_acc")], ("bleu_acc", "none")),
        (
            "gsm8k",
            [metric("exact_match", "flexible-extract"), metric("exact_match", "strict-match")],
            ("exact_match", "strict-match"),
        ),
        ("humaneval", [metric("pass@1", "create_test")], ("pass@1", "create_test")),
        ("my_own", [metric("novelty"), metric("f1")], ("f1", "none")),
        ("my_own", [metric("novelty")], ("novelty", "none")),
    ],
)
def test_each_benchmark_has_its_usual_metric(task: str, metrics: list[MetricValue], expected: tuple[str, str]) -> None:
    chosen = headline_metric(task, metrics)
    assert chosen is not None
    assert (chosen.metric, chosen.filter) == expected


def test_a_preferred_metric_wins_where_it_was_measured() -> None:
    metrics = [metric("exact_match", "strict-match"), metric("exact_match", "flexible-extract"), metric("acc")]
    assert headline_metric("gsm8k", metrics, "acc") == metrics[2]
    assert headline_metric("gsm8k", metrics, "exact_match,flexible-extract") == metrics[1]
    assert headline_metric("gsm8k", metrics, "missing") == metrics[0]


def test_nothing_measured_has_no_headline() -> None:
    assert headline_metric("mmlu", []) is None
