"""Sets validation examples apart: by chance, by stratum, by fold or by time, always the same for one seed.

Two rules hold for every way. Rows of one text stay on one side, so that no validation example was trained on; and
replay rows, with all rows of the same text, are trained on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.records import Example, SplitSpec

#: Indices of examples of one text, in order.
Group = tuple[int, ...]


def split_examples(examples: Sequence[Example], spec: SplitSpec) -> tuple[list[Example], list[Example]]:
    """Split examples into training and validation, each in the order in which they came.

    ``holdout`` draws a share of the rows. ``stratified`` draws the same share of each label, or of each value of the
    column, by the method of largest remainders, and leaves at least one row of each to training. ``kfold`` deals the
    rows out to folds of nearly one size, stratum by stratum where there are labels or a column. ``time`` takes the
    latest rows; a row whose text was already there earlier stays in training. ``none`` validates on nothing.

    Raises:
        DataError: One side would be empty (says how many rows there are), or the times are neither numbers nor dates.
        UsageError: ``stratified`` without labels and without a column.
    """
    if spec.by == "none":
        return list(examples), []
    groups = [group for group in _groups(examples) if not any(examples[index].replay for index in group)]
    free = sum(map(len, groups))
    if spec.by == "stratified":
        _check_strata(examples, groups)
    chosen = _CHOOSERS[spec.by](examples, groups, spec)
    if not chosen or len(chosen) == free:
        raise _empty_side(len(examples), free, spec, training_empty=bool(chosen))
    train = [example for index, example in enumerate(examples) if index not in chosen]
    return train, [examples[index] for index in sorted(chosen)]


def text_identity(example: Example) -> tuple[str, ...]:
    """Return what two examples share if they are one text, whatever their case and white space.

    A label's text counts without the label, since a second row that labels it otherwise tells about it all the same.
    """
    parts = (example.text, example.text_pair or "") if example.format == "label" else (example.whole,)
    return tuple(" ".join(part.casefold().split()) for part in parts)


def _groups(examples: Sequence[Example]) -> list[Group]:
    found: dict[tuple[str, ...], list[int]] = {}
    for index, example in enumerate(examples):
        found.setdefault(text_identity(example), []).append(index)
    return [tuple(group) for group in found.values()]


def _holdout(examples: Sequence[Example], groups: Sequence[Group], spec: SplitSpec) -> set[int]:
    want = _share(spec.fraction, sum(map(len, groups)))
    return _drawn(groups, want, random.Random(f"{spec.seed}:holdout"))


def _stratified(examples: Sequence[Example], groups: Sequence[Group], spec: SplitSpec) -> set[int]:
    strata = _strata(examples, groups)
    sizes = {name: sum(map(len, members)) for name, members in strata.items()}
    quotas = {name: spec.fraction * size for name, size in sizes.items()}
    want = {name: min(math.floor(quota), sizes[name] - 1) for name, quota in quotas.items()}
    missing = _share(spec.fraction, sum(sizes.values())) - sum(want.values())
    for name in sorted(strata, key=lambda name: (-(quotas[name] % 1), name)):
        if missing > 0 and want[name] < sizes[name] - 1:
            want[name] += 1
            missing -= 1
    chosen: set[int] = set()
    for name, members in strata.items():
        chosen |= _drawn(members, want[name], random.Random(f"{spec.seed}:stratum:{name}"))
    return chosen


def _kfold(examples: Sequence[Example], groups: Sequence[Group], spec: SplitSpec) -> set[int]:
    folds: list[list[int]] = [[] for _ in range(spec.folds)]
    for name, members in _strata(examples, groups).items():
        shuffled = list(members)
        random.Random(f"{spec.seed}:fold:{name}").shuffle(shuffled)
        for group in shuffled:
            min(folds, key=lambda fold: len(fold)).extend(group)
    return set(folds[spec.fold])


def _time(examples: Sequence[Example], groups: Sequence[Group], spec: SplitSpec) -> set[int]:
    free = [index for group in groups for index in group]
    moments = _moments([examples[index] for index in free])
    in_order = [index for _, index in sorted(zip(moments, free, strict=True))]
    want = _share(spec.fraction, len(free))
    late = set(in_order[len(in_order) - want :])
    return {index for group in groups if late.issuperset(group) for index in group}


_CHOOSERS: dict[str, Callable[[Sequence[Example], Sequence[Group], SplitSpec], set[int]]] = {
    "holdout": _holdout,
    "stratified": _stratified,
    "kfold": _kfold,
    "time": _time,
}


def _share(fraction: float, count: int) -> int:
    return math.floor(fraction * count + 0.5)


def _drawn(groups: Iterable[Group], want: int, rng: random.Random) -> set[int]:
    """Draw whole groups until ``want`` rows are there; one group may go past it where nothing smaller was drawn."""
    shuffled = list(groups)
    rng.shuffle(shuffled)
    chosen: set[int] = set()
    for group in shuffled:
        if len(chosen) + len(group) <= want:
            chosen.update(group)
    if want and not chosen and len(shuffled) > 1:
        chosen.update(sorted(shuffled, key=len)[0])
    return chosen


def _strata(examples: Sequence[Example], groups: Sequence[Group]) -> dict[str, list[Group]]:
    strata: dict[str, list[Group]] = {}
    for group in groups:
        strata.setdefault(_stratum(examples[group[0]]) or "", []).append(group)
    return strata


def _stratum(example: Example) -> str | None:
    if example.key is not None:
        return example.key
    return example.answer if example.format == "label" else None


def _check_strata(examples: Sequence[Example], groups: Sequence[Group]) -> None:
    bare = next((examples[index] for group in groups for index in group if _stratum(examples[index]) is None), None)
    if bare is not None:
        raise UsageError(
            f"split by: stratified needs labels, and {bare.place} is in the format {bare.format}; "
            "name a column to stratify by as split.column, or take by: holdout"
        )


def _moments(examples: Sequence[Example]) -> list[float]:
    moments = []
    as_number = all(_number(example.key) is not None for example in examples)
    for example in examples:
        moment = _number(example.key) if as_number else _date(example.key)
        if moment is None:
            raise DataError(
                f"{example.place} has the time '{example.key}'; expected numbers in every row, "
                "or ISO dates such as 2024-05-31 or 2024-05-31T12:00:00 in every row"
            )
        moments.append(moment)
    return moments


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _empty_side(rows: int, free: int, spec: SplitSpec, training_empty: bool) -> DataError:
    replay = f", {rows - free} of them replay, which is never validated on" if free < rows else ""
    outcome = "leaves nothing to train on" if training_empty else "sets no row apart for validation"
    how = f"fold {spec.fold} of {spec.folds}" if spec.by == "kfold" else f"{spec.fraction:.0%}"
    return DataError(
        f"split by: {spec.by} ({how}) of {rows} rows{replay}, {outcome}; give more rows with different texts, "
        "another split.fraction or split.folds, a source as validation, or by: none"
    )
