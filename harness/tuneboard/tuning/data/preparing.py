"""Takes data through all steps, and counts what each of them did."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuneboard.datafiles import Table
from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.data.cleaning import clean
from tuneboard.tuning.data.formats import Binding, as_trained, bind, check_kind, to_examples
from tuneboard.tuning.data.leaks import benchmark_items, find_leaks
from tuneboard.tuning.data.mixing import Pool, balance, draw, mix
from tuneboard.tuning.data.sources import read_source, source_names
from tuneboard.tuning.data.splits import split_examples, text_identity
from tuneboard.tuning.data.templates import Lookup
from tuneboard.tuning.records import (
    CleaningSpec,
    CleaningStep,
    DataReport,
    DataSpec,
    Example,
    Leak,
    LeakSpec,
    ModelKind,
    PreparedData,
    RowFormat,
    SourceReport,
    SourceSpec,
)

#: Rows that tell a format: enough to meet an optional column that the first rows leave out.
_ROWS_TO_SNIFF = 20

#: Fields that hold text, of what is answered and of what is asked; a template writes the latter.
_ANSWERS, _PROMPTS = ("completion", "output"), ("text", "prompt", "instruction")

#: Rows that a step names.
_MOST_PLACES = 20


@dataclass(frozen=True, slots=True)
class DataContext:
    """What preparing data depends on beside the recipe's ``data``."""

    kind: ModelKind
    folder: Path
    """Where relative paths start."""
    mirror: Path | None
    seed: int
    """Draws source limits, and orders the mixture."""
    benchmarks: tuple[str, ...] = ()
    """Suites, tasks or groups that the leak check looks for, where the recipe names none."""
    include_paths: tuple[Path, ...] = ()
    """Folders with tasks of the user's own."""


@dataclass(frozen=True, slots=True)
class _Source:
    spec: SourceSpec
    report: SourceReport
    examples: tuple[Example, ...]


class _Ledger:
    """The steps so far, each with what it removed, added or flagged."""

    def __init__(self) -> None:
        self.steps: list[CleaningStep] = []

    def removed(self, name: str, before: Sequence[Example], after: Sequence[Example]) -> None:
        """Note the examples that a step left out, if there are any."""
        left = {example.place for example in after}
        places = tuple(example.place for example in before if example.place not in left)
        if len(before) > len(after):
            self.steps.append(CleaningStep(name, len(before) - len(after), 0, places[:_MOST_PLACES]))

    def flagged(self, name: str, count: int, places: Sequence[str] = ()) -> None:
        """Note the examples that a step met or added, if there are any."""
        if count:
            self.steps.append(CleaningStep(name, 0, count, tuple(places[:_MOST_PLACES])))


def sniff(spec: DataSpec, folder: Path, mirror: Path | None) -> RowFormat:
    """Tell the format of the first source by a few of its rows.

    Raises:
        DataError: It is missing, does not parse, or has columns of no known format.
        UsageError: Its ``columns`` or ``template`` do not fit it.
    """
    first = spec.sources[0]
    name = source_names(spec.sources)[0]
    return bind(read_source(first, name, (folder, mirror), _ROWS_TO_SNIFF), first).format


def prepare(spec: DataSpec, context: DataContext) -> PreparedData:
    """Make examples out of the sources of a recipe.

    Training examples come shuffled and mixed (``mixing`` says how), validation examples in the order of their source.
    Every step that took, added or flagged rows is counted in the report. Labels become the names of classes for
    classification, and answers for other kinds of models (``formats.as_trained``).

    Raises:
        DataError: A source, row or column is missing or broken, or a step leaves nothing.
        UsageError: The format does not fit the kind of model, or leaks are found and refused.
    """
    ledger = _Ledger()
    sources, held_out = _read(spec, context, ledger)
    pool = _clean([example for source in sources for example in source.examples], spec.cleaning, ledger)
    validation = _clean(held_out.examples, spec.cleaning, ledger, "validation: ") if held_out else []
    leaks = _find_leaks([*pool, *validation], spec.leaks, context)
    places = list(dict.fromkeys(leak.place for leak in leaks))
    if spec.leaks.policy == "remove":
        pool = _without(pool, places, "leaks", ledger)
        validation = _without(validation, places, "validation: leaks", ledger)
    else:
        ledger.flagged("leaks", len(places), places)
    train, validation = _split(pool, validation, spec, ledger)
    origins = {example.place: source.report.path for source in sources for example in source.examples}
    train = _mix(train, sources, origins, spec, context.seed, ledger)
    labels = _labels(train, validation, context.kind)
    made_of = Counter(origins[example.place] for example in train)
    train = [as_trained(example, context.kind) for example in train]
    validation = [as_trained(example, context.kind) for example in validation]
    report = DataReport(
        sources=tuple(source.report for source in (*sources, *([held_out] if held_out else []))),
        steps=tuple(ledger.steps),
        leaks=tuple(leaks),
        train=len(train),
        validation=len(validation),
        labels=labels,
        mixture={source.report.path: made_of[source.report.path] for source in sources},
        sha256=_sha256(train, validation),
    )
    names = tuple(labels) if context.kind == "classification" else ()
    return PreparedData(tuple(train), tuple(validation), report, names)


def _read(spec: DataSpec, context: DataContext, ledger: _Ledger) -> tuple[list[_Source], _Source | None]:
    specs = list(spec.sources)
    column = spec.split.column if spec.split.by != "none" else None
    if spec.validation is not None:
        if spec.validation.replay:
            raise UsageError("data.validation has replay: true, and replay is never validated on; leave it out there")
        specs.append(spec.validation)
        column = None
    elif all(source.replay for source in spec.sources) and spec.split.by != "none":
        raise UsageError("all sources are replay, which is never validated on; name a validation source or by: none")
    names = source_names(specs)
    read = [
        _read_one(source, name, context, None if source.replay else column, ledger)
        for source, name in zip(specs, names, strict=True)
    ]
    return (read[:-1], read[-1]) if spec.validation is not None else (read, None)


def _read_one(spec: SourceSpec, name: str, context: DataContext, column: str | None, ledger: _Ledger) -> _Source:
    table = read_source(spec, name, (context.folder, context.mirror))
    binding = bind(table, spec)
    check_kind(context.kind, binding.format, name)
    report = SourceReport(name, binding.format, len(table.rows), table.sha256)
    taken = replace(table, rows=tuple(draw(table.rows, spec.limit, context.seed, name)))
    if len(taken.rows) < len(table.rows):
        ledger.steps.append(CleaningStep(f"limit of {name}", len(table.rows) - len(taken.rows)))
    examples = to_examples(taken, binding, spec.replay, column)
    odd = _not_text(taken, binding)
    ledger.flagged(f"fields without text in {name}", len(odd), odd)
    return _Source(spec, report, tuple(examples))


def _not_text(table: Table, binding: Binding) -> list[str]:
    """Return where a text field holds a number, which is read as it is written, or nothing, with the field."""
    fields = [field for field in _ANSWERS if field in binding.fields]
    if binding.template is None:
        fields += [field for field in _PROMPTS if field in binding.fields]
    places = []
    for number, row in table.rows:
        lookup = Lookup(row, binding.fields, table.place(number))
        for field in fields:
            value = lookup.value(field)
            if value is None or isinstance(value, (int, float)):
                what = "nothing" if value is None or value != value else type(value).__name__
                places.append(f"{lookup.place} ({field} holds {what})")
    return places


def _clean(examples: Sequence[Example], spec: CleaningSpec, ledger: _Ledger, prefix: str = "") -> list[Example]:
    cleaned, steps = clean(examples, spec)
    ledger.steps += [replace(step, name=prefix + step.name) for step in steps]
    if not cleaned:
        done = ", ".join(f"{step.name} {step.removed}" for step in steps if step.removed) or "nothing"
        raise DataError(
            f"cleaning left no row of {len(examples)} (removed: {done}); see data.cleaning, or mend the rows"
        )
    return cleaned


def _find_leaks(examples: Sequence[Example], spec: LeakSpec, context: DataContext) -> list[Leak]:
    names = spec.against or context.benchmarks
    if not names:
        return []
    leaks = find_leaks(examples, benchmark_items(names, context.mirror, context.include_paths), spec)
    if leaks and spec.policy == "refuse":
        first = ", ".join(f"{leak.task} item {leak.doc_id} in {leak.place}" for leak in leaks[:5])
        count = len({(leak.task, leak.doc_id) for leak in leaks})
        raise UsageError(
            f"the data hold {count} items of the benchmarks to be evaluated: "
            f"{first}{', ...' if len(leaks) > 5 else ''}; take them out, or set data.leaks.policy to remove or list"
        )
    return leaks


def _without(examples: list[Example], places: Sequence[str], step: str, ledger: _Ledger) -> list[Example]:
    taken = set(places)
    left = [example for example in examples if example.place not in taken]
    ledger.removed(step, examples, left)
    if examples and not left:
        raise DataError(f"the step '{step}' removed all {len(examples)} rows; give data that stand in no benchmark")
    return left


def _split(
    pool: list[Example], validation: list[Example], spec: DataSpec, ledger: _Ledger
) -> tuple[list[Example], list[Example]]:
    if spec.validation is None:
        return split_examples(pool, spec.split)
    held = {text_identity(example) for example in validation}
    train = [example for example in pool if text_identity(example) not in held]
    ledger.removed("also in validation", pool, train)
    if not train:
        raise DataError(f"all {len(pool)} training rows stand in the validation source too; give two different ones")
    return train, validation


def _mix(
    train: Sequence[Example],
    sources: Sequence[_Source],
    origins: Mapping[str, str],
    spec: DataSpec,
    seed: int,
    ledger: _Ledger,
) -> list[Example]:
    by_source: dict[str, list[Example]] = {source.report.path: [] for source in sources}
    for example in train:
        by_source[origins[example.place]].append(example)
    mixed = mix([Pool(s.report.path, s.spec.weight, by_source[s.report.path]) for s in sources], seed)
    ledger.removed("left out of the mixture", train, mixed)
    balanced = balance(mixed, spec.cleaning.balance)
    ledger.removed("undersampled labels", mixed, balanced)
    ledger.flagged("repeats of oversampled labels", max(0, len(balanced) - len(mixed)))
    limited = balanced[: spec.limit]
    ledger.removed("limit", balanced, limited)
    return limited


def _labels(train: Sequence[Example], validation: Sequence[Example], kind: ModelKind) -> Mapping[str, int]:
    """Count the labels of training, sorted (numbers by value), and refuse those that only validation has."""
    counts = Counter(example.answer for example in train if example.format == "label")
    unseen: dict[str, str] = {}
    for example in validation:
        if example.format == "label" and example.answer not in counts:
            unseen.setdefault(example.answer, example.place)
    if unseen:
        named = ", ".join(f"'{label}' ({place})" for label, place in sorted(unseen.items())[:10])
        raise DataError(
            f"{len(unseen)} labels of validation stand in no training row: {named}; training has "
            f"{', '.join(sorted(counts)[:10])}; add rows of them, raise the limit, or split by: stratified"
        )
    if kind == "classification" and len(counts) < 2:
        raise DataError(
            f"all {len(train)} training rows have the label '{next(iter(counts))}'; expected two or more labels"
        )
    numbered = all(label.isdecimal() for label in counts)
    return dict(sorted(counts.items(), key=lambda item: (int(item[0]) if numbered else 0, item[0])))


def _sha256(train: Sequence[Example], validation: Sequence[Example]) -> str:
    """Hash what is trained and validated on, in order; not where it came from, so that files may be renamed."""
    digest = hashlib.sha256()
    for side, examples in (("train", train), ("validation", validation)):
        for example in examples:
            parts = [side, example.format, example.text, example.text_pair, example.answer, example.messages]
            digest.update(json.dumps(parts).encode() + b"\n")
    return digest.hexdigest()
