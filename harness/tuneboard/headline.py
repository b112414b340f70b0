"""Which metric stands for a task where a table has room for one."""

from __future__ import annotations

from collections.abc import Sequence

from tuneboard.records import MetricValue

#: Task prefix to ``(metric, filter)``; the longest prefix wins.
_OF_TASK = {
    "arc": ("acc_norm", ""),
    "bbh_cot_zeroshot": ("exact_match", "flexible-extract"),
    "bbh_zeroshot": ("exact_match", "flexible-extract"),
    "cnn_dailymail": ("rougeLsum", ""),
    "cola": ("mcc", ""),
    "dialogsum": ("rougeL", ""),
    "gsm8k": ("exact_match", "strict-match"),
    "hellaswag": ("acc_norm", ""),
    "humaneval": ("pass@1", ""),
    "mbpp": ("pass_at_1", ""),
    "mmlu": ("acc", ""),
    "openbookqa": ("acc_norm", ""),
    "piqa": ("acc_norm", ""),
    "samsum": ("rougeL", ""),
    "squad": ("f1", ""),
    "stsb": ("pearson", ""),
    "truthfulqa_gen": ("bleu_acc", ""),
    "truthfulqa_mc": ("acc", ""),
    "wmt": ("bleu", ""),
    "xsum": ("rougeL", ""),
}

#: Tried in this order for every other task.
_USUAL = ("acc", "exact_match", "pass@1", "f1", "word_perplexity", "bleu", "rougeL", "mcc")


def headline_metric(task: str, metrics: Sequence[MetricValue], preferred: str | None = None) -> MetricValue | None:
    """Choose the metric that stands for a task.

    Args:
        task: Name of the task or group.
        metrics: What was measured.
        preferred: A metric's name, or ``metric,filter`` as lm-eval writes it; it wins where it was measured.

    Returns:
        The metric, or None where nothing was measured.
    """
    prefix = max((prefix for prefix in _OF_TASK if task.startswith(prefix)), key=len, default="")
    metric, _, filter_name = (preferred or "").partition(",")
    wanted = [(metric, filter_name)] if preferred else []
    wanted += [_OF_TASK[prefix]] if prefix else []
    wanted += [(name, "") for name in _USUAL]
    for name, filter_name in wanted:
        found = [one for one in metrics if one.metric == name]
        if found:
            return next((one for one in found if one.filter == filter_name), found[0])
    return metrics[0] if metrics else None
