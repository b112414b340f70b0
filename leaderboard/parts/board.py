"""The rows of the leaderboard: bases with their candidates under them, their places, scores and differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from tuneboard import stats
from tuneboard.compare.roles import assign_places
from tuneboard.config import SuiteTask
from tuneboard.headline import headline_metric
from tuneboard.store.listing import ListedCandidate, ListedScore

#: Stands for the mean of all columns, among what candidates can be ranked by.
AVERAGE = "average of the columns"
#: Model size to the parameters from and below which it is.
SIZES: Mapping[str, tuple[float, float]] = {
    "below 100 M": (0, 1e8),
    "100 M to 1 B": (1e8, 1e9),
    "1 B to 4 B": (1e9, 4e9),
    "4 B to 15 B": (4e9, 15e9),
    "15 B and more": (15e9, math.inf),
}
ORDERS = ("best first", "newest first", "by name")
UNKNOWN = "not known"
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Standing:
    """A score with its interval, in the column that candidates are ranked by."""

    value: float
    ci: tuple[float, float] | None
    n: int
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a candidate, or a base that was never evaluated and only stands over its candidates."""

    name: str
    base: str
    candidate: ListedCandidate | None
    standing: Standing | None
    rank: tuple[int, int] | None
    to_base: float | None
    """Candidate - base; None for bases."""
    scores: Mapping[str, float]

    @property
    def is_base(self) -> bool:
        """Whether others stand under it."""
        return self.name == self.base


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the visitor filters by; what is empty lets everything through."""

    text: str = ""
    methods: Sequence[str] = ()
    quantizations: Sequence[str] = ()
    sizes: Sequence[str] = ()
    since: date | None = None

    def fits(self, one: ListedCandidate) -> bool:
        """Tell whether a candidate fits."""
        words = self.text.casefold().split()
        searched = f"{one.name} {one.model_id} {one.base}".casefold()
        return (
            all(word in searched for word in words)
            and (not self.methods or method_of(one) in self.methods)
            and (not self.quantizations or quantization_of(one) in self.quantizations)
            and (not self.sizes or size_of(one) in self.sizes)
            and (self.since is None or one.evaluated.date() >= self.since)
        )


@dataclass(frozen=True, slots=True)
class Board:
    """Everything that the table shows before it is filtered."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    ranked_by: str
    metric: str
    """Of the column that candidates are ranked by."""


def method_of(one: ListedCandidate) -> str:
    """Return how a candidate was made."""
    return one.method or ("base model" if one.kind == "base" else UNKNOWN)


def quantization_of(one: ListedCandidate) -> str:
    """Return the quantization of a candidate's newest evaluation."""
    return one.quantization or _NONE


def size_of(one: ListedCandidate) -> str:
    """Return the name of a candidate's size."""
    if one.parameters is None:
        return UNKNOWN
    return next(name for name, (least, below) in SIZES.items() if least <= one.parameters < below)


def top_tasks(
    members: Mapping[str, Sequence[str]], entries: Sequence[SuiteTask], tags: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return the groups and tasks that stand for themselves: those that a suite names, or that are part of no group.

    Args:
        members: Every group and task, to the tasks in it.
        entries: Of the suite; without any, everything that was evaluated counts.
        tags: Name of an entry that is a tag, to its tasks.
    """
    groups = {name: parts for name, parts in members.items() if parts}
    places = assign_places(list(members), groups, entries, tags, rest=not entries)
    return tuple(name for name, place in places.items() if place.member_of is None)


def headlines(scores: Iterable[ListedScore], entries: Sequence[SuiteTask]) -> dict[str, dict[str, ListedScore]]:
    """Choose, for every task and candidate, the score that stands for it.

    Args:
        scores: In the order in which they were stored.
        entries: Of the suite, which may name another metric than the usual one.
    """
    preferred = {entry.task: entry.headline for entry in entries}
    found: dict[tuple[str, str], list[ListedScore]] = {}
    for score in scores:
        found.setdefault((score.task, score.candidate), []).append(score)
    chosen: dict[str, dict[str, ListedScore]] = {}
    for (task, candidate), of_task in found.items():
        metric = headline_metric(task, [score.metric for score in of_task], preferred.get(task))
        chosen.setdefault(task, {})[candidate] = next(score for score in of_task if score.metric is metric)
    return chosen


def make_board(
    candidates: Sequence[ListedCandidate],
    chosen: Mapping[str, Mapping[str, ListedScore]],
    columns: Sequence[str],
    ranked_by: str,
) -> Board:
    """Rank candidates and set them under their bases.

    Args:
        candidates: All of them.
        chosen: From ``headlines``.
        columns: Tasks that are shown.
        ranked_by: One of them, or ``AVERAGE``.
    """
    standings = {one.name: _standing(one.name, chosen, columns, ranked_by) for one in candidates}
    ranks = _ranks({name: standing for name, standing in standings.items() if standing is not None})
    rows = []
    for one in candidates:
        mine, theirs = standings[one.name], standings.get(one.base)
        rows.append(
            Row(
                name=one.name,
                base=one.base,
                candidate=one,
                standing=mine,
                rank=ranks.get(one.name),
                to_base=mine.value - theirs.value if mine and theirs and one.base != one.name else None,
                scores={
                    task: chosen[task][one.name].metric.value for task in columns if one.name in chosen.get(task, {})
                },
            )
        )
    names = {
        (score.metric.metric, score.metric.filter)
        for task in ([ranked_by] if ranked_by != AVERAGE else columns)
        for score in chosen.get(task, {}).values()
    }
    shown = sorted(
        metric if filter_name in ("none", "") else f"{metric}, {filter_name}" for metric, filter_name in names
    )
    return Board(tuple(rows), tuple(columns), ranked_by, " / ".join(shown))


def arrange(rows: Sequence[Row], wanted: Wanted, order: str) -> list[Row]:
    """Return the rows that fit, bases with their candidates under them; a base stays over candidates that fit.

    Args:
        rows: All of them.
        wanted: What to keep.
        order: One of ``ORDERS``: of the groups, and of the candidates within each.
    """
    kept = [row for row in rows if row.candidate is not None and wanted.fits(row.candidate)]
    by_name = {row.name: row for row in rows}
    groups: dict[str, list[Row]] = {}
    for row in kept:
        groups.setdefault(row.base, []).append(row)
    for members in groups.values():
        members.sort(key=lambda row: (not row.is_base, *_order_key(row, order)))
    ordered = sorted(groups, key=lambda base: min(_order_key(row, order) for row in groups[base]))
    arranged: list[Row] = []
    for base in ordered:
        if not groups[base][0].is_base:
            arranged.append(by_name.get(base) or Row(base, base, None, None, None, None, {}))
        arranged.extend(groups[base])
    return arranged


def _order_key(row: Row, order: str) -> tuple[float | str, ...]:
    if order == "by name":
        return (row.name.casefold(), row.name)
    if order == "newest first":
        assert row.candidate is not None
        return (-row.candidate.evaluated.timestamp(), row.name)
    standing = row.standing
    if standing is None or not math.isfinite(standing.value):
        return (math.inf, row.name)
    return (-standing.value if standing.higher_is_better else standing.value, row.name)


def _standing(
    name: str, chosen: Mapping[str, Mapping[str, ListedScore]], columns: Sequence[str], ranked_by: str
) -> Standing | None:
    if ranked_by != AVERAGE:
        score = chosen.get(ranked_by, {}).get(name)
        return None if score is None else _of_score(score)
    scores = [chosen.get(task, {}).get(name) for task in columns]
    parts = [_of_score(score) for score in scores if score is not None]
    comparable = all(0 <= part.value <= 1 and part.higher_is_better for part in parts)
    if not parts or len(parts) < len(columns) or not comparable:
        return None
    errors = [score.metric.stderr for score in scores if score is not None and score.metric.stderr is not None]
    value = math.fsum(part.value for part in parts) / len(parts)
    stderr = math.sqrt(math.fsum(error**2 for error in errors)) / len(parts) if len(errors) == len(parts) else None
    ci = None if stderr is None else stats.group_interval(value, stderr)
    return Standing(value, ci, sum(part.n for part in parts), True)


def _of_score(score: ListedScore) -> Standing:
    metric = score.metric
    ci = metric.ci
    if ci is None and metric.stderr is not None:
        ci = stats.group_interval(metric.value, metric.stderr)
    return Standing(metric.value, ci, score.n, metric.higher_is_better is not False)


def _ranks(standings: Mapping[str, Standing]) -> dict[str, tuple[int, int]]:
    finite = {name: one for name, one in standings.items() if math.isfinite(one.value)}
    if not finite:
        return {}
    ranges = stats.rank_ranges(
        [one.ci or (one.value, one.value) for one in finite.values()], next(iter(finite.values())).higher_is_better
    )
    return dict(zip(finite, ranges, strict=True))
