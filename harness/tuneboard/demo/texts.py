"""What the demo's model learns from: the train splits of tasks, worked out as lm-eval writes few-shot examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneboard.config import SuiteTask
from tuneboard.errors import DataError
from tuneboard.suites import TaskRequest, load_tasks


def lesson_texts(tasks: tuple[SuiteTask, ...]) -> dict[str, tuple[str, ...]]:
    """Return prompts with their right answers, by task.

    Args:
        tasks: Tasks with a train split; prompts and delimiters are those of their evaluation.

    Raises:
        DataError: A task has no train split.
    """
    lessons: dict[str, tuple[str, ...]] = {}
    for name, task in load_tasks(TaskRequest(tasks)).tasks.items():
        if not task.has_training_docs():
            raise DataError(f"task '{name}' has no train split to learn from; name one in its YAML as training_split")
        lessons[name] = tuple(text for doc in task.training_docs() for text in _worked(task, doc))
    return lessons


def _worked(task: Any, doc: Mapping[str, Any]) -> Iterator[str]:
    prompt = task.doc_to_text(doc)
    if "canonical_solution" in doc:  # HumanEval's shape: the target is a test, the solution stands beside it
        yield prompt + doc["canonical_solution"].rstrip("\n")
        return
    target, choices = task.doc_to_target(doc), task.doc_to_choice(doc) if task.config.doc_to_choice else None
    if choices is None:
        answers = [target]
    elif "labels" in doc:  # TruthfulQA's shape: every true answer is right
        answers = [choice for choice, true in zip(choices, doc["labels"], strict=True) if true]
    else:
        answers = [choices[target]]
    for answer in answers:
        yield f"{prompt}{task.config.target_delimiter}{answer}"
