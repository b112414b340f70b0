"""What a task's YAML says about it: which data, which metrics, how many examples; read without importing lm-eval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

#: Keys of a task's YAML that say something about it, beside those that name it.
KEYS = (
    "dataset_path",
    "dataset_name",
    "test_split",
    "validation_split",
    "output_type",
    "num_fewshot",
    "metric_list",
    "aggregate_metric_list",
    "kind",
    "data",
    "metrics",
)

#: What lm-eval measures where a task's YAML names no metric.
_USUAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "loglikelihood": ("perplexity", "acc"),
        "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
        "multiple_choice": ("acc", "acc_norm"),
        "generate_until": ("exact_match",),
    }
)
#: The same of tasks on rows of the user's own, by their kind; generated answers have the metrics that are asked for.
_OF_KIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "multiple_choice": _USUAL["multiple_choice"],
        "classification": ("acc", "f1_macro", "mcc"),
        "perplexity": _USUAL["loglikelihood_rolling"],
    }
)


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is known of a task or group before it is loaded."""

    source: str | None = None
    """Data set on the hub, the kind of local files, or the file of rows of a task of one's own."""
    config: str | None = None
    """Its configuration; None is the default one."""
    split: str | None = None
    """That is evaluated."""
    num_fewshot: int | None = None
    """Of the task itself; a suite may ask for another number. None where the YAML does not say: 0."""
    metrics: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    """Tasks and groups inside a group."""


#: Of tags, and of tasks that are known by name alone.
NOTHING = TaskFacts()


def facts_of(keys: Mapping[str, Any]) -> TaskFacts:
    """Read what a task's or group's YAML says.

    Args:
        keys: Its ``KEYS`` and ``task``, those of the files that it includes among them; ``!function`` as plain text.
    """
    if "group" in keys:
        members = keys.get("task")
        names = [_member(one) for one in members] if isinstance(members, list) else [members]
        return TaskFacts(
            metrics=_metrics(keys.get("aggregate_metric_list")), members=tuple(one for one in names if one is not None)
        )
    shots = keys.get("num_fewshot")
    metrics = _metrics(keys.get("metric_list"))
    if not metrics and keys.get("dataset_path") and "class" not in keys:
        metrics = _USUAL.get(str(keys.get("output_type") or "generate_until"), ())
    if not metrics and "kind" in keys:
        asked = keys.get("metrics") or ()
        metrics = _OF_KIND.get(str(keys["kind"]), (asked,) if isinstance(asked, str) else tuple(map(str, asked)))
    return TaskFacts(
        source=_text(keys.get("dataset_path") or keys.get("data")),
        config=_text(keys.get("dataset_name")),
        split=_text(keys.get("test_split")) or _text(keys.get("validation_split")),
        num_fewshot=shots if isinstance(shots, int) else None,
        metrics=metrics,
    )


def _metrics(listed: Any) -> tuple[str, ...]:
    """Return the names in a metric list; a function is named without its module."""
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    names = (one.get("metric") for one in entries)
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in names if isinstance(name, str)))


def _member(entry: Any) -> str | None:
    if isinstance(entry, dict):
        entry = entry.get("group") or entry.get("task")
    return _text(entry) if not isinstance(entry, list) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
