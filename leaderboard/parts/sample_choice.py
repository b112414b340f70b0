"""Which samples are looked through: two candidates, tasks, what became of the samples, a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from parts import data, state
from parts.words import harmless
from tuneboard.store.browsing import (
    CHANGES,
    Pairing,
    SampleIndex,
    SampleKey,
    SamplePair,
    find_pairs,
    index_samples,
    with_metric,
)
from tuneboard.store.listing import listed_candidates
from tuneboard.store.sample_pages import OpenSample, SampleRow, open_sample, sample_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALL = "all"
#: What became of a sample to its icon and word.
LABELS = {
    "broke": "▼ Broke",
    "fixed": "▲ Fixed",
    "both wrong": "✗ Both wrong",
    "both right": "✓ Both right",
    "not scored": "! Not scored",
    ALL: "All",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the visitor chose; small, as the keys of caches are made of it."""

    base: str
    candidate: str
    tasks: tuple[str, ...]
    metric: str
    """``NAME,FILTER``; empty takes each task's own."""
    text: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The samples that are looked through."""

    asked: Asked
    index: SampleIndex
    change: str
    rows: NDArray[np.int64]
    """Where they stand in the index."""

    def key(self, position: int) -> SampleKey:
        """Return the sample at a position among those that are looked through."""
        return self.index.key(int(self.rows[position]))


def choose_samples(db: Path) -> Selection | None:
    """Show the choices, and return what was chosen; None where two candidates have no sample in common."""
    names = _pick_names(db)
    if names is None:
        st.info("One candidate is evaluated so far. Samples are shown of two, side by side.")
        return None
    pairing = data.cached(find_pairs)(db, *names)
    if not pairing.pairs:
        st.info("These two have no results that can be laid side by side.")
        _show_missing(pairing)
        return None
    pairs, metric, text = _pick_tasks(pairing)
    asked = Asked(*names, tuple(pair.task for pair in pairs), metric, text)
    index = data.cached(_index)(db, asked)
    change = _pick_change(index)
    _show_missing(pairing)
    return Selection(asked, index, change, index.of(None if change == ALL else change))  # type: ignore[arg-type]


def rows_of(db: Path, asked: Asked, keys: tuple[SampleKey, ...]) -> list[SampleRow]:
    """Return samples in short; from the cache where they were asked for before."""
    return data.cached(_rows)(db, asked, keys)


def opened(db: Path, asked: Asked, key: SampleKey) -> OpenSample:
    """Return one sample in full; from the cache where it was asked for before.

    Raises:
        DataError: There is none.
    """
    return data.cached(_open)(db, asked, key)


def _pick_names(db: Path) -> tuple[str, str] | None:
    candidates = data.cached(listed_candidates)(db)
    bases = {one.name: one.base for one in candidates}
    if len(bases) < 2:
        return None
    wanted = state.value("candidate")
    tuned = wanted if bases.get(wanted, wanted) != wanted else next((n for n, b in bases.items() if b != n), "")
    places = st.columns(2)
    with places[0]:
        default = bases.get(tuned)
        base = state.pick("Base", "base", list(bases), default=default) or ""
    with places[1]:
        # Its own candidates first, then all others.
        others = sorted((name for name in bases if name != base), key=lambda name: bases[name] != base)
        candidate = state.pick("Candidate", "candidate", others) or ""
    return base, candidate


def _pick_tasks(pairing: Pairing) -> tuple[tuple[SamplePair, ...], str, str]:
    groups: dict[str, list[str]] = {}
    for pair in pairing.pairs:
        groups.setdefault(pair.member_of or pair.task, []).append(pair.task)
    # A link may name a subject as the task.
    for group, members in groups.items():
        if state.value("task") in members and state.value("task") != group:
            state.put(task=group, subject=state.value("task"))
    places = st.columns(4 if _subjects(groups) else 3)
    with places[0]:
        task = state.pick("Task", "task", ["", *groups], format_func=lambda name: harmless(name) or "All tasks")
    members = groups.get(task or "", [pair.task for pair in pairing.pairs])
    if _subjects(groups):
        with places[1]:
            offered = ["", *(members if task and members != [task] else [])]
            subject = state.pick(
                "Subject", "subject", offered, format_func=lambda name: harmless(name) or "All subjects"
            )
        members = [subject] if subject else members
    pairs = tuple(pair for pair in pairing.pairs if pair.task in members)
    with places[-2]:
        shared = [one for one in pairs[0].metrics if all(one in pair.metrics for pair in pairs)]
        offered = [",".join(one) for one in shared] if len(shared) > 1 else []
        metric = state.pick("Judged by", "metric", ["", *offered], format_func=_metric_label)
    with places[-1]:
        text = state.pick_text("Find", "text", placeholder="in question, choices, target and answers")
    return pairs, metric or "", text.strip()


def _subjects(groups: dict[str, list[str]]) -> bool:
    return any(members != [group] for group, members in groups.items())


def _metric_label(written: str) -> str:
    if not written:
        return "Main metric"
    metric, _, filter_name = written.partition(",")
    return harmless(metric if filter_name == "none" else f"{metric}, {filter_name}")


def _pick_change(index: SampleIndex) -> str:
    counts: dict[str, int] = {**index.counts(), ALL: len(index.changes)}
    offered = [name for name in (*CHANGES, ALL) if counts[name] or name != "not scored"]
    return (
        state.pick(
            "What became of the samples",
            "status",
            offered,
            default="broke",
            shape=st.segmented_control,
            format_func=lambda name: f"{LABELS[name]} {counts[name]:,}",
            label_visibility="collapsed",
            required=True,
        )
        or ALL
    )


def _show_missing(pairing: Pairing) -> None:
    if pairing.missing:
        with st.expander(f"{len(pairing.missing)} not shown, with the reasons"):
            st.text(harmless("\n".join(f"{name}: {reason}" for name, reason in pairing.missing)))


def _pairs(db: Path, asked: Asked) -> tuple[SamplePair, ...]:
    pairs = tuple(pair for pair in data.cached(find_pairs)(db, asked.base, asked.candidate).pairs)
    pairs = tuple(pair for pair in pairs if pair.task in asked.tasks)
    metric, _, filter_name = asked.metric.partition(",")
    return with_metric(pairs, (metric, filter_name)) if asked.metric else pairs


def _index(db: Path, asked: Asked) -> SampleIndex:
    return index_samples(db, _pairs(db, asked), asked.text)


def _rows(db: Path, asked: Asked, keys: tuple[SampleKey, ...]) -> list[SampleRow]:
    return sample_rows(db, _pairs(db, asked), keys)


def _open(db: Path, asked: Asked, key: SampleKey) -> OpenSample:
    pair = next(pair for pair in _pairs(db, asked) if pair.task == key[0])
    return open_sample(db, pair, key[1])
