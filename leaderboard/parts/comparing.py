"""Whom to compare, and the comparison itself, kept as long as the database stays the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import streamlit as st

from parts.data import cached, note
from parts.state import pick, pick_many
from parts.words import literal
from tuneboard.compare import CandidateComparison, Comparison, Plan, compare
from tuneboard.errors import DataError
from tuneboard.report.comparison import comparison_rows
from tuneboard.store.baselines import PREFIX, baseline_path, list_baselines, load_baseline, staleness
from tuneboard.store.listing import ListedCandidate, listed_candidates
from tuneboard.store.overview import asked
from tuneboard.store.pairs import load_scores

#: Candidates that are compared unless the URL names others, and the most that are compared at once.
_FIRST, _MOST = 5, 12
#: Stands for all tasks in the list of suites.
ALL_TASKS = "all tasks"
_WHOLE_NUMBERS = ("n", "n_docs", "left_out", "fixed", "broke", "n_needed", "place")

known_candidates = cached(listed_candidates)
known_suites = cached(asked)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whom the visitor wants compared."""

    base: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A comparison, as the pages show it."""

    base: str
    candidates: tuple[CandidateComparison, ...]
    """Without their rows."""
    rows: pd.DataFrame
    """A row per candidate, task and metric under the names of ``tuneboard compare --format csv``, and the ``place``."""
    warnings: tuple[str, ...]
    """About the base."""


def choose(db: Path) -> Chosen:
    """Let the visitor choose a base and candidates; ends the page where there is nobody to compare.

    Args:
        db: The database.
    """
    known = known_candidates(db)
    under = Counter(one.base for one in known if one.base != one.name)
    names = sorted((one.name for one in known), key=lambda name: -under[name])
    left, right = st.columns([1, 2])
    with left:
        base = pick("Base", "base", [*names, *(PREFIX + path.stem for path in list_baselines())])
    if base is None or not (others := _candidates(base, known)):
        st.info("There is one candidate alone; a comparison needs a base and another.")
        st.stop()
    mine = [one.name for one in known if one.name in others and one.base == base]
    first = [name for name in others if name in mine] or others
    with right:
        chosen = pick_many("Candidates", "candidate", others, first[:_FIRST])
    if not chosen:
        st.info("Choose candidates to compare with the base.")
        st.stop()
    if len(chosen) > _MOST:
        note(f"The first {_MOST} of {len(chosen)} candidates are compared.")
    return Chosen(base, tuple(chosen[:_MOST]))


def choose_suite(db: Path) -> str:
    """Let the visitor choose a suite.

    Args:
        db: The database.
    """
    return pick("Suite", "suite", [ALL_TASKS, *known_suites(db).suites]) or ALL_TASKS


def compared(db: Path, chosen: Chosen, suite: str = ALL_TASKS) -> Compared:
    """Compare; ends the page with the reason where the base has no results.

    Args:
        db: The database.
        chosen: Whom.
        suite: Only its tasks, with its roles.
    """
    changed = baseline_path(chosen.base).stat().st_mtime_ns if chosen.base.startswith(PREFIX) else 0
    try:
        return _compared(db, chosen.base, chosen.candidates, suite, changed)
    except DataError as error:
        st.error(literal(str(error), 600))
        st.stop()


@cached
def _compared(db: Path, base: str, candidates: tuple[str, ...], suite: str, _changed: int) -> Compared:
    baseline = load_baseline(base) if base.startswith(PREFIX) else None
    known = asked(db)
    scores = load_scores(db, base, candidates, baseline=baseline)
    comparison = compare(scores, Plan(suite=known.suites.get(suite), tags=known.tags))
    return Compared(
        base,
        tuple(replace(one, tasks=()) for one in comparison.candidates),
        _frame(comparison),
        tuple(staleness(db, baseline)) if baseline else (),
    )


def _frame(comparison: Comparison) -> pd.DataFrame:
    rows = comparison_rows(comparison)
    places = {(one.task, one.metric, one.filter): one.ranks for one in comparison.ranks}
    for row in rows:
        row["place"] = places.get((row["task"], row["metric"], row["filter"]), {}).get(row["candidate_name"])
    frame = pd.DataFrame(rows)
    return frame.astype({name: "Int64" for name in _WHOLE_NUMBERS if name in frame})


def _candidates(base: str, known: Sequence[ListedCandidate]) -> list[str]:
    """Return whom a base can be compared with: those made from it first, each the newest first."""
    newest = sorted(known, key=lambda one: one.evaluated, reverse=True)
    newest.sort(key=lambda one: one.base != base)
    return [one.name for one in newest if one.name != base]


def headlines(rows: pd.DataFrame, level: str, tasks: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows of headline metrics down to a level.

    Args:
        rows: Of ``Compared``.
        level: ``benchmarks``, ``areas`` (groups inside of groups too) or ``subjects`` (everything).
        tasks: Only these and what is in them; empty takes all.
    """
    if rows.empty:
        return rows
    found = rows[rows["headline"]]
    if tasks:
        found = found[found["task"].isin(tasks) | found["member_of"].isin(tasks)]
    if level == "benchmarks":
        return found[found["member_of"].isna()]
    return found[found["member_of"].isna() | (found["kind"] == "group")] if level == "areas" else found


def levels(rows: pd.DataFrame) -> list[str]:
    """Return the levels of detail that the rows have, the coarsest first."""
    inside = rows[rows["member_of"].notna()] if len(rows) else rows
    if inside.empty:
        return ["benchmarks"]
    return ["benchmarks", *(["areas"] if (inside["kind"] == "group").any() else []), "subjects"]
