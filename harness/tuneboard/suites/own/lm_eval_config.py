"""A task of the user's own as a config of lm-eval's, and what scores its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tuneboard.metrics import Metric, find_metrics, with_companions
from tuneboard.suites.own.documents import documents, label_words
from tuneboard.suites.own.schema import OwnTask, read_own_task

#: Version of how own tasks are asked and scored; raised when that changes.
VERSION = 1.0


class OwnRows:
    """Hands the documents of a task to lm-eval.

    Args:
        splits: By name.
    """

    def __init__(self, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.splits = splits

    def __call__(self, **settings: Any) -> Any:
        """Return a ``datasets.DatasetDict``; lm-eval passes the task's metadata, which nothing here depends on."""
        import datasets

        made = {name: datasets.Dataset.from_list([dict(doc) for doc in docs]) for name, docs in self.splits.items()}
        return datasets.DatasetDict(made)


def own_config(path: Path) -> dict[str, Any]:
    """Read a task of the user's own as lm-eval's config.

    Prompts are written and answers found here, so that what lm-eval asks is in the rows, and their hash covers it.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem of the YAML.
        DataError: Rows cannot be asked.
    """
    task = read_own_task(path)
    splits = {"test": documents(task, task.table)}
    config: dict[str, Any] = {"task": task.task, "test_split": "test", "metadata": _metadata(task)}
    if task.examples is not None:
        splits["train"] = documents(task, task.examples)
        config |= {"training_split": "train", "fewshot_split": "train"}
    config["custom_dataset"] = OwnRows(splits)
    if task.kind != "perplexity":
        config["doc_to_text"] = "prompt"
        if task.description:
            config["description"] = task.description if task.description[-1].isspace() else f"{task.description}\n\n"
        if task.num_fewshot is not None:
            config["num_fewshot"] = task.num_fewshot
    return config | _OF_KIND[task.kind](task, splits["test"])


def score_answers(doc: Mapping[str, Any], results: Sequence[Any], metrics: Sequence[Metric]) -> dict[str, Any]:
    """Score what was generated for one document.

    Args:
        doc: With its ``references``.
        results: One item: the answer, or a list of those that were drawn.
        metrics: What to compute.
    """
    answers = results[0] if isinstance(results[0], list) else [results[0]]
    return {metric.name: metric.of_answers(doc["references"], answers) for metric in metrics}


def score_labels(
    doc: Mapping[str, Any], results: Sequence[tuple[float, bool]], metrics: Sequence[Metric], count: int
) -> dict[str, Any]:
    """Score the likeliest label of one document.

    Args:
        doc: With the place of the right label as ``answer``.
        results: Log-probability of each label.
        metrics: What to compute.
        count: Number of labels.
    """
    said = max(range(count), key=lambda place: results[place][0])
    return {metric.name: metric.score(doc["answer"], said, count) for metric in metrics}


def _multiple_choice(task: OwnTask, docs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }


def _classification(task: OwnTask, docs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    words, metrics = list(label_words(task).values()), find_metrics(["labels"])
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": words,
        "doc_to_target": "answer",
        "process_results": partial(score_labels, metrics=metrics, count=len(words)),
        "metric_list": _metric_list(metrics, []),
    }


def _generation(task: OwnTask, docs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metrics = with_companions(find_metrics(task.metrics))
    settings: dict[str, Any] = {"until": list(task.stop), "max_gen_toks": task.max_new_tokens, "do_sample": False}
    config: dict[str, Any] = {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "process_results": partial(score_answers, metrics=metrics),
        "metric_list": _metric_list(metrics, [doc["references"] for doc in docs]),
        "generation_kwargs": settings,
    }
    if task.temperature:
        settings |= {"do_sample": True, "temperature": task.temperature}
    if task.repeats > 1:
        take_all = {"function": "take_first_k", "k": task.repeats}
        config |= {"repeats": task.repeats, "filter_list": [{"name": "none", "filter": [take_all]}]}
    return config


def _perplexity(task: OwnTask, docs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    aggregations = {
        "word_perplexity": "weighted_perplexity",
        "byte_perplexity": "weighted_perplexity",
        "bits_per_byte": "bits_per_byte",
    }
    return {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [
            {"metric": name, "aggregation": aggregation, "higher_is_better": False}
            for name, aggregation in aggregations.items()
        ],
    }


_OF_KIND = {
    "multiple_choice": _multiple_choice,
    "classification": _classification,
    "generation": _generation,
    "perplexity": _perplexity,
}


def _metric_list(metrics: Sequence[Metric], references: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    out = []
    for metric in metrics:
        entry = {
            "metric": metric.name,
            "aggregation": metric.corpus or "mean",
            "higher_is_better": metric.higher_is_better,
        }
        out.append(entry | ({"signature": metric.signature(references)} if metric.signature else {}))
    return out


def _metadata(task: OwnTask) -> dict[str, Any]:
    shared = {} if task.cluster is None else {"cluster": "cluster"}
    return {"version": VERSION, "kind": task.kind, **({"prompt": task.prompt} if task.prompt else {}), **shared}
