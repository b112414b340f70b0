"""Tells the format of rows by their columns, and turns rows into examples.

    text          text
    completion    prompt, completion       (also: question, answer; response)
    instruction   instruction, output      (also: response) and, where it helps, input
    chat          messages                 (also: conversations), a list of {role, content} or of {from, value}
    label         text, label              (also: sentence; sentence1, sentence2; premise, hypothesis)

Where the columns have other names, ``columns`` of the source says which is which (``a.b`` reaches into a nested
column), ``template`` writes the prompt in place of the format's own, and ``labels`` names classes that are numbered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from tuneboard.datafiles import Table
from tuneboard.errors import DataError, UnknownName, UsageError, near_matches
from tuneboard.tuning.data.chats import read_messages
from tuneboard.tuning.data.templates import Lookup, Template, parse_template
from tuneboard.tuning.records import Example, ModelKind, RowFormat, SourceSpec

#: Each format's fields and the columns that they are looked for in; formats are tried in this order.
FIELDS: Mapping[RowFormat, Mapping[str, tuple[str, ...]]] = {
    "chat": {"messages": ("messages", "conversations")},
    "instruction": {"instruction": ("instruction",), "input": ("input",), "output": ("output", "response")},
    "completion": {"prompt": ("prompt", "question"), "completion": ("completion", "answer", "response")},
    "label": {
        "text": ("text", "sentence", "sentence1", "premise"),
        "text_pair": ("text_pair", "sentence2", "hypothesis"),
        "label": ("label",),
    },
    "text": {"text": ("text",)},
}

ACCEPTED = (
    "text; prompt + completion (or question + answer); instruction + output (and input); "
    "messages (or conversations); text + label (or sentence, sentence1 + sentence2, premise + hypothesis)"
)

_OPTIONAL = ("input", "text_pair")

#: Where a recipe names columns.
_BESIDE = "in data.sources, beside the path:"

#: The field that a template writes, so that no column need hold it.
_WRITTEN = {"completion": "prompt", "label": "text", "text": "text"}

#: Our wording of the three-part prompt of Stanford Alpaca (Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca).
#: It ends before the line break, which begins the answer: a prompt that ends in white space splits tokens differently.
_INSTRUCTION = (
    "A task is described below. Write a response that carries it out.\n\n### Instruction:\n{}\n\n### Response:"
)
_INSTRUCTION_WITH_INPUT = (
    "A task is described below, with the input it is about. Write a response that carries it out.\n\n"
    "### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:"
)

#: As lm-eval's question tasks are asked, GSM8K among them.
_QUESTION = "Question: {}\nAnswer:"


@dataclass(frozen=True, slots=True)
class Binding:
    """Which column of a table is which field of its format."""

    format: RowFormat
    fields: Mapping[str, str]
    template: Template | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Label in the data to the name that is learnt; empty keeps them."""


def bind(table: Table, spec: SourceSpec) -> Binding:
    """Tell a table's format by its columns, or check that it has those of the format that the source names.

    Raises:
        DataError: Its columns are of no format, or a named column is missing; says which columns there are.
        UnknownName: ``columns`` names a field that no format has.
        UsageError: The format is ``chat`` and has a template, another than ``label`` and has labels, or the template is
            broken.
    """
    _check_columns(table, spec)
    template = parse_template(spec.template, f"the template of {table.name}") if spec.template is not None else None
    formats = (
        [spec.format] if spec.format != "auto" else [name for name in FIELDS if set(spec.columns) <= set(FIELDS[name])]
    )
    for name in formats:
        if name == "chat" and template is not None:
            if spec.format == "chat":
                raise UsageError(
                    f"{table.name}: a template does not fit messages, which the model's own lays out; leave it out"
                )
            continue
        fields = _bound(name, table.columns, spec.columns)
        missing = [field for field in FIELDS[name] if field not in fields and field not in _OPTIONAL]
        if not missing or (template and missing == [_WRITTEN.get(name)]):
            return Binding(name, fields, template, _checked_labels(spec, name, table.name))
    raise _unknown_format(table, spec)


def to_examples(table: Table, binding: Binding, replay: bool = False, key_column: str | None = None) -> list[Example]:
    """Turn a table's rows into examples, in order.

    A template makes examples of the format ``instruction`` to ones of ``completion``.

    Args:
        table: What was read.
        binding: Which column is what, by ``bind``.
        replay: Whether the examples are replay.
        key_column: Column whose values become ``Example.key``.

    Raises:
        DataError: A row lacks a field or holds something that is no text (names the row), or there is no such column.
    """
    if key_column is not None and not _has(table, key_column):
        raise _missing_column(table, key_column, "data.split.column")
    make = _MAKERS[binding.format]
    examples = []
    for number, row in table.rows:
        lookup = Lookup(row, binding.fields, table.place(number))
        key = _key(lookup, key_column) if key_column is not None else None
        examples.append(dataclasses.replace(make(lookup, binding), place=lookup.place, key=key, replay=replay))
    return examples


def check_kind(kind: ModelKind, row_format: RowFormat, name: str) -> None:
    """Refuse a format that a kind of model cannot learn from.

    Raises:
        UsageError: ``classification`` without labels, or ``seq2seq`` without answers.
    """
    if kind == "classification" and row_format != "label":
        raise UsageError(
            f"{name} is in the format {row_format}, and kind: classification learns labels; expected columns "
            "text + label (or sentence, sentence1 + sentence2, premise + hypothesis); "
            f"name yours {_BESIDE} columns: {{text: ..., label: ...}}"
        )
    if kind == "seq2seq" and row_format in ("text", "chat"):
        raise UsageError(
            f"{name} is in the format {row_format}, and kind: seq2seq learns to answer a prompt; expected prompt + "
            "completion, instruction + output or text + label; "
            f"name yours {_BESIDE} columns: {{prompt: ..., completion: ...}}"
        )


def as_trained(example: Example, kind: ModelKind) -> Example:
    """Return an example as a model of that kind reads it.

    Causal and seq2seq models learn a label as an answer: its name after the text (and after the second text, on a line
    of its own). A causal model reads prompt and answer in one piece; where neither brings white space to the seam, the
    answer gets a space, or the line break of the instruction prompt.
    """
    if kind == "classification":
        return example
    if example.format == "label":
        text = example.text if example.text_pair is None else f"{example.text}\n{example.text_pair}"
        example = dataclasses.replace(example, format="completion", text=text, text_pair=None)
    touches = example.text and example.answer and not example.text[-1].isspace() and not example.answer[0].isspace()
    if kind == "causal" and touches:
        seam = "\n" if example.format == "instruction" else " "
        example = dataclasses.replace(example, answer=seam + example.answer)
    return example


def _check_columns(table: Table, spec: SourceSpec) -> None:
    known = sorted({field for fields in FIELDS.values() for field in fields})
    if spec.format != "auto":
        known = list(FIELDS[spec.format])
    for field, column in spec.columns.items():
        if field not in known:
            raise UnknownName("field", field, known, f"columns of {table.name} may name {', '.join(known)}")
        if not _has(table, column):
            raise _missing_column(table, column, f"columns.{field}")


def _has(table: Table, column: str) -> bool:
    return column in table.columns or column.partition(".")[0] in table.columns


def _bound(name: RowFormat, columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    plain = {column.strip().lower(): column for column in reversed(columns)}
    fields = {}
    for field, candidates in FIELDS[name].items():
        found = [plain[candidate] for candidate in candidates if candidate in plain]
        if field in given:
            fields[field] = given[field]
        elif found:
            fields[field] = found[0]
    return fields


def _checked_labels(spec: SourceSpec, found: RowFormat, name: str) -> Mapping[str, str]:
    if spec.labels and found != "label":
        raise UsageError(f"{name} is in the format {found}, which has no labels to name; leave labels out")
    return spec.labels


def _missing_column(table: Table, column: str, wanted_by: str) -> DataError:
    near = near_matches(column, table.columns)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return DataError(f"{table.name} has no column '{column}' ({wanted_by}); {hint}its columns: {_listed(table)}")


def _unknown_format(table: Table, spec: SourceSpec) -> DataError:
    if spec.format != "auto":
        wanted = [" or ".join(names) for field, names in FIELDS[spec.format].items() if field not in _OPTIONAL]
        return DataError(
            f"{table.name} has the columns {_listed(table)}; the format {spec.format} needs {' and '.join(wanted)}; "
            f"name yours {_BESIDE} columns: {{FIELD: COLUMN}}"
        )
    return DataError(
        f"{table.name} has the columns {_listed(table)}, which are no known format; expected {ACCEPTED}; "
        f"name yours {_BESIDE} columns: {{prompt: COLUMN, completion: COLUMN}}, or write the prompt with template"
    )


def _listed(table: Table, most: int = 20) -> str:
    return ", ".join(table.columns[:most]) + (", ..." if len(table.columns) > most else "")


def _from_text(row: Lookup, binding: Binding) -> Example:
    return Example(binding.template.fill(row) if binding.template else row.text("text"))


def _from_completion(row: Lookup, binding: Binding) -> Example:
    if binding.template:
        prompt = binding.template.fill(row)
    else:
        prompt = row.text("prompt")
        if binding.fields["prompt"].lower() == "question":
            prompt = _QUESTION.format(prompt.strip()) if prompt.strip() else ""
    return Example(prompt, row.text("completion"), format="completion")


def _from_instruction(row: Lookup, binding: Binding) -> Example:
    answer = row.text("output")
    if binding.template:
        return Example(binding.template.fill(row), answer, format="completion")
    task = row.text("instruction").strip()
    about = row.text("input").strip() if "input" in binding.fields else ""
    if not task and not about:
        prompt = ""  # for the cleaning step that removes empty rows
    else:
        prompt = _INSTRUCTION_WITH_INPUT.format(task, about) if about else _INSTRUCTION.format(task)
    return Example(prompt, answer, format="instruction")


def _from_label(row: Lookup, binding: Binding) -> Example:
    label = row.value("label")
    if isinstance(label, float):
        if not label.is_integer():
            raise DataError(f"{row.place} has the label {label}; expected a class, since scores are not learned")
        label = int(label)
    name = row.as_text(label, binding.fields["label"]).strip()
    if not name:
        raise DataError(f"{row.place} has no label; label the row or take it out")
    name = _named(name, binding.labels, row.place)
    if binding.template:
        return Example(binding.template.fill(row), name, format="label")
    pair = row.text("text_pair") if "text_pair" in binding.fields else None
    return Example(row.text("text"), name, format="label", text_pair=pair)


def _named(label: str, names: Mapping[str, str], place: str) -> str:
    """Return the name of a label; data that hold the names already, as the hub's often do, keep them."""
    if label in names:
        return names[label]
    if names and label not in names.values():
        raise DataError(f"{place} has the label '{label}', and labels names {', '.join(names)}; add it there")
    return label


def _from_chat(row: Lookup, binding: Binding) -> Example:
    return Example("", messages=read_messages(row), format="chat")


def _key(row: Lookup, column: str) -> str:
    value = row.column(column)
    text = value.isoformat() if isinstance(value, (date, datetime)) else row.as_text(value, column)
    if not text:
        raise DataError(
            f"{row.place} has nothing in '{column}', which data.split.column names; fill it or drop the row"
        )
    return text


_MAKERS: Mapping[RowFormat, Callable[[Lookup, Binding], Example]] = {
    "text": _from_text,
    "completion": _from_completion,
    "instruction": _from_instruction,
    "chat": _from_chat,
    "label": _from_label,
}
