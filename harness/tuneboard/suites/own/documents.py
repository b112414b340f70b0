"""From rows to the documents that lm-eval asks: prompts written, right answers found."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tuneboard.datafiles import Table
from tuneboard.errors import DataError, near_matches
from tuneboard.suites.own.columns import template
from tuneboard.suites.own.schema import OwnTask

_Row = Mapping[str, Any]
#: Rows that are named where many are wrong.
_NAMED = 5
#: Labels that may be gathered out of the data; more are hardly labels.
_MOST_LABELS = 100


class _Fault(ValueError):
    """What is wrong with one row."""


def label_words(task: OwnTask) -> Mapping[str, str]:
    """Return what the label column may hold, each with the word that the model is to say.

    Raises:
        DataError: The YAML names no labels, and the column holds too many or a single one.
    """
    if task.labels:
        return task.labels
    values = sorted({str(row.get(task.label)) for _, row in task.table.rows})
    if not 2 <= len(values) <= _MOST_LABELS:
        raise DataError(
            f"{task.table.name}: column '{task.label}' holds {len(values)} different values; expected 2 to "
            f"{_MOST_LABELS} labels, so name them under 'labels'"
        )
    return {value: value for value in values}


def documents(task: OwnTask, table: Table) -> list[dict[str, Any]]:
    """Return a document for each row of a table.

    Args:
        task: Says which column is what.
        table: The task's data, or its examples.

    Returns:
        Mappings with ``prompt`` and, by kind, ``choices`` and ``answer``, ``answer``, ``target`` and ``references``, or
        ``text``; with ``cluster`` where the task names a column of it.

    Raises:
        DataError: Names rows that cannot be asked, and why.
    """
    makers: Mapping[str, Callable[[OwnTask, Table], list[dict[str, Any]]]] = {
        "multiple_choice": _choosing,
        "classification": _labelled,
        "generation": _generating,
        "perplexity": lambda task, table: _each(table, lambda row: {"text": _text(row, task.text)}),
    }
    made = makers[task.kind](task, table)
    if task.kind != "perplexity":
        prompts = _each(table, lambda row: {"prompt": _prompt(task.prompt, row, table.columns)})
        made = [prompt | doc for prompt, doc in zip(prompts, made, strict=True)]
    if task.cluster is not None:
        shared = [row.get(task.cluster) for _, row in table.rows]
        made = [doc | {"cluster": None if one is None else str(one)} for doc, one in zip(made, shared, strict=True)]
    return made


def _each(table: Table, make: Callable[[_Row], dict[str, Any]]) -> list[dict[str, Any]]:
    """Make a document of each row; raises ``DataError`` with those of which none can be made."""
    made, faults = [], []
    for number, row in table.rows:
        try:
            made.append(make(row))
        except _Fault as fault:
            faults.append(f"{table.unit} {number}: {fault}")
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(f"{table.name}: {'; '.join(faults[:_NAMED])}{more}")
    return made


def _choosing(task: OwnTask, table: Table) -> list[dict[str, Any]]:
    choices = [doc["choices"] for doc in _each(table, lambda row: {"choices": _choices(row, task.choices)})]
    answers = [row.get(task.answer) for _, row in table.rows]
    places = _places(choices, answers)
    if places is None:
        of_row = dict(zip((id(row) for _, row in table.rows), choices, strict=True))
        _each(table, lambda row: {"answer": _place_or_fault(of_row[id(row)], row.get(task.answer), task.answer)})
        raise DataError(
            f"{table.name}: column '{task.answer}' tells the right choice in different ways, or in one that can be "
            "read in two: by text and by number; write letters (A, B, ...) in every row"
        )
    return [{"choices": each, "answer": place} for each, place in zip(choices, places, strict=True)]


def _places(choices: Sequence[Sequence[str]], answers: Sequence[Any]) -> list[int] | None:
    """Read all answers in one way; None where there is none, or texts and numbers fit alike and mean other choices."""
    read = [[reading(each, answer) for each, answer in zip(choices, answers, strict=True)] for reading in _READINGS]
    whole = [[place for place in places if place is not None] for places in read]
    by_text, by_number, by_letter = (places if len(places) == len(answers) else None for places in whole)
    if by_text is not None and by_number is not None and by_text != by_number:
        return None
    return by_text or by_number or by_letter


def _by_text(choices: Sequence[str], answer: Any) -> int | None:
    text = str(answer)
    return choices.index(text) if text in choices else None


def _by_number(choices: Sequence[str], answer: Any) -> int | None:
    whole = isinstance(answer, int) or (isinstance(answer, str) and answer.strip().isdecimal())
    return int(answer) if whole and 0 <= int(answer) < len(choices) else None


def _by_letter(choices: Sequence[str], answer: Any) -> int | None:
    letter = answer.strip().upper() if isinstance(answer, str) else ""
    place = string.ascii_uppercase.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(choices) else None


_READINGS = (_by_text, _by_number, _by_letter)


def _place_or_fault(choices: Sequence[str], answer: Any, column: str) -> int:
    for reading in _READINGS:
        place = reading(choices, answer)
        if place is not None:
            return place
    from_one = answer == len(choices) or str(answer) == str(len(choices))
    hint = "; numbers count from 0" if from_one else ""
    raise _Fault(f"{column} is {answer!r}, neither one of {list(choices)} nor the letter or number of one{hint}")


def _choices(row: _Row, columns: Sequence[str]) -> list[str]:
    if len(columns) > 1:
        given: Any = [row.get(column) for column in columns]
        while given and given[-1] in (None, ""):
            given.pop()
    else:
        given = row.get(columns[0])
        if isinstance(given, str) and given.lstrip().startswith("["):
            try:
                given = json.loads(given)
            except ValueError as error:
                raise _Fault(f"{columns[0]} is no list ({given[:40]!r})") from error
    if not isinstance(given, list):
        raise _Fault(f"{columns[0]} is {given!r}, expected a list of choices; or name a column for each choice")
    texts = [_plain(value, "a choice") for value in given]
    if len(texts) < 2:
        raise _Fault(f"it has {len(texts)} choices, expected at least 2")
    if len(set(texts)) < len(texts):
        raise _Fault(f"a choice stands twice in {texts}")
    return texts


def _labelled(task: OwnTask, table: Table) -> list[dict[str, Any]]:
    words = label_words(task)
    places = {value: place for place, value in enumerate(words)}
    counted = all(value == word for value, word in words.items())

    def answer(row: _Row) -> dict[str, Any]:
        value = _plain(row.get(task.label), task.label)
        if value in places:
            return {"answer": places[value]}
        number = _by_number(list(places), row.get(task.label)) if counted else None
        if number is not None:
            return {"answer": number}
        near = near_matches(value, places)
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise _Fault(f"{task.label} is {value!r}, not one of {', '.join(places)}{meant}")

    return _each(table, answer)


def _generating(task: OwnTask, table: Table) -> list[dict[str, Any]]:
    def answer(row: _Row) -> dict[str, Any]:
        value = row.get(task.reference)
        texts = [_plain(one, task.reference) for one in (value if isinstance(value, list) else [value])]
        if not texts:
            raise _Fault(f"{task.reference} is an empty list, expected at least one right answer")
        return {"target": texts[0], "references": texts}

    return _each(table, answer)


def _prompt(prompt: str, row: _Row, columns: Iterable[str]) -> str:
    if prompt in columns:
        return _text(row, prompt)
    # A row of JSON lines may lack a column that others have.
    try:
        text = str(template(prompt).render(**row))
    except Exception as error:  # a template may call methods of whatever a row holds
        raise _Fault(f"the prompt cannot be written ({type(error).__name__}: {error})") from error
    if not text.strip():
        raise _Fault("the prompt is empty")
    return text


def _text(row: _Row, column: str) -> str:
    return _plain(row.get(column), column)


def _plain(value: Any, what: str) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise _Fault(f"{what} is {value!r}, expected a text")
    if not value.strip():
        raise _Fault(f"{what} is empty")
    return value
