"""The texts of benchmark items, as their documents hold them: without few-shot examples, ``Answer:`` and the like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tuneboard.config import SuiteTask
from tuneboard.errors import UnknownName
from tuneboard.suites import TaskRequest, compiled_templates, find_suite, list_suites, list_task_names, load_tasks


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """One question of a benchmark."""

    task: str
    doc_id: int
    text: str
    """Its question and right answer."""
    variants: tuple[str, ...] = ()
    """The same cut otherwise: the question alone, the question with all choices. Each counts for itself."""


def benchmark_items(
    names: Sequence[str], mirror: Path | None, include_paths: Sequence[Path] = ()
) -> list[BenchmarkItem]:
    """Return all items of the named benchmarks, also those that a suite's limit leaves out.

    The last answers are remembered, since the recipes of a sweep ask for the same ones.

    Args:
        names: Suites (names or YAML files), and tasks, groups or tags of lm-eval or of the user's own.
        mirror: Folder that data sets are read from; None reads from the hub.
        include_paths: Folders of the user's own task YAML.

    Raises:
        UnknownName: There is no such suite or task.
        TuneboardError: A task or its data cannot be loaded, as ``suites.load_tasks`` tells.
    """
    return list(_items(tuple(names), mirror, tuple(include_paths)))


@lru_cache(maxsize=2)
def _items(names: tuple[str, ...], mirror: Path | None, include_paths: tuple[Path, ...]) -> tuple[BenchmarkItem, ...]:
    asked = dict.fromkeys(task for name in names for task in _tasks_of(name))
    request = TaskRequest(tuple(map(SuiteTask, asked)), include_paths, mirror, num_fewshot=0)
    try:
        loaded = load_tasks(request)
    except UnknownName as error:
        known = [*(suite.name for suite in list_suites()), *list_task_names(include_paths)]
        hint = "see: tuneboard show suites, tuneboard show tasks"
        raise UnknownName("suite or task", error.name, known, hint) from error
    with compiled_templates():
        return tuple(
            item_of(task, name, doc_id, doc)
            for name, task in loaded.tasks.items()
            for doc_id, doc in enumerate(task.eval_docs)
        )


def _tasks_of(name: str) -> list[str]:
    if name.endswith((".yaml", ".yml")) or name in {suite.name for suite in list_suites()}:
        return [entry.task for entry in find_suite(name).tasks]
    return [name]


def item_of(task: Any, name: str, doc_id: int, doc: Mapping[str, Any]) -> BenchmarkItem:
    """Cut one document of a task into question, choices and right answer.

    The question is what the prompt takes over from the document's own fields, and the whole prompt where the task
    rewrites them. Where choices are letters, the document's list that the prompt shows is meant.

    Args:
        task: Of lm-eval.
        name: The task's.
        doc_id: Position among the task's documents.
        doc: The document, as the task processed it.
    """
    prompt = task.doc_to_text(doc)
    choices = list(map(str, task.doc_to_choice(doc))) if task.OUTPUT_TYPE == "multiple_choice" else []
    if isinstance(prompt, int):  # the choices are the contexts, as in WinoGrande
        prompt = choices[prompt]
    prompt = "\n".join(map(str, prompt)) if isinstance(prompt, list) else str(prompt)
    question = _question(doc, prompt)
    shown = _shown_list(doc, prompt, len(choices))
    if max(map(len, choices), default=0) <= 2 and shown:
        choices = shown
    whole = _joined(question, _answer(task.doc_to_target(doc), choices))
    cuts = [question, _joined(question, *shown) if shown else ""]
    return BenchmarkItem(name, doc_id, whole, tuple(cut for cut in dict.fromkeys(cuts) if cut and cut != whole))


def _question(doc: Mapping[str, Any], prompt: str) -> str:
    """Return the fields of the document that stand in the prompt, in its order."""
    found = sorted(
        {
            (prompt.find(value), value)
            for field in doc.values()
            if isinstance(field, str) and (value := field.strip()) in prompt and len(value.split()) > 1
        }
    )
    values = [value for _, value in found]
    parts = [value for value in values if not any(value != other and value in other for other in values)]
    return _joined(*parts) if parts else prompt.strip()


def _shown_list(doc: Mapping[str, Any], prompt: str, length: int) -> list[str]:
    """Return the longest-worded list of the document whose members all stand in the prompt, or nothing.

    Args:
        doc: The document.
        prompt: What the task makes of it.
        length: Members that the list must have; 0 takes any list of two or more.
    """
    found = [
        members
        for members in _lists(doc)
        if len(members) == (length or len(members)) > 1 and all(member.strip() in prompt for member in members)
    ]
    return max(found, key=lambda members: sum(map(len, members)), default=[])


def _lists(value: Mapping[str, Any]) -> Iterator[list[str]]:
    for field in value.values():
        if isinstance(field, list) and all(isinstance(member, str) for member in field):
            yield field
        elif isinstance(field, Mapping):
            yield from _lists(field)


def _answer(target: Any, choices: Sequence[str]) -> str:
    first = target[0] if isinstance(target, list) and target else target
    if isinstance(first, int) and 0 <= first < len(choices):
        return choices[first]
    return first if isinstance(first, str) else ""


def _joined(*parts: str) -> str:
    return "\n".join(part.strip() for part in parts if part.strip())
