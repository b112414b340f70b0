"""The card of one candidate: where it comes from, its scores, how it was trained, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st
from parts import card, data, state
from parts.charts import show_chart
from parts.tables import show_table
from parts.words import NOTHING, harmless, literal

from tuneboard.store import facts, listing, trainings
from tuneboard.store.listing import EvaluationRow, ListedCandidate
from tuneboard.store.trainings import TrainingRow

_candidates = data.cached(listing.listed_candidates)
_facts = data.cached(facts.candidate_facts)
_scores = data.cached(listing.listed_scores)
_evaluations = data.cached(listing.evaluations)
_run_facts = data.cached(facts.run_facts)
_cost = data.cached(facts.newest_cost)
_curve = data.cached(trainings.training_curve)


@data.cached
def _trainings(db: Any, candidate: str) -> list[TrainingRow]:
    return trainings.find_trainings(db, candidate=candidate)


def show() -> None:
    """Show the page."""
    db = data.database()
    candidates = {one.name: one for one in _candidates(db)}
    name = state.pick("Candidate", "candidate", list(candidates))
    if name is None:
        st.info("No candidate was evaluated yet.")
        return
    one, kept = candidates[name], _facts(db, name)
    made = next(iter(_trainings(db, one.fingerprint)), None)
    cells = _evaluations(db, name)
    run = _run_facts(db, cells[0].run) if cells else None
    _head(one, made, cells)
    st.subheader("Scores")
    show_table(card.scores_frame(_scores(db, None, name)), f"Scores of {name}", _score_columns())
    if made:
        st.subheader("Training")
        _training(made)
    st.subheader("How to reproduce")
    _commands(made, run)
    st.subheader("Provenance")
    facts_frame = card.facts_frame(kept or {}, made, run)
    show_table(facts_frame, f"Provenance of {name}", {"Value": st.column_config.TextColumn(width="large")})
    with st.expander(f"Evaluations ({len(cells)})"):
        show_table(card.evaluations_frame(cells), f"Evaluations of {name}", _evaluation_columns())


def _head(one: ListedCandidate, made: TrainingRow | None, cells: Sequence[EvaluationRow]) -> None:
    st.title(literal(one.name))
    kind = {"base": "base model", "adapter": "adapter", "checkpoint": "full checkpoint"}[one.kind]
    under = "" if one.base == one.name else f" on {one.base}"
    st.caption(literal(f"{kind}{under} · {one.model_id} · last evaluated {one.evaluated:%Y-%m-%d %H:%M} UTC", 400))
    if one.base != one.name:
        with st.container(key="card-links", horizontal=True, gap="medium"):
            state.page_link(f"Compare with {one.base}", "compare", base=one.base, candidate=[one.name])
            state.page_link("What broke", "samples", base=one.base, candidate=one.name)
    figures = made.figures if made else None
    seconds = sum(cell.seconds for cell in cells if cell.kind == "task")
    tokens = sum(cell.tokens for cell in cells if cell.kind == "task")
    shown = [
        ("Method", literal(one.method or ("none" if one.kind == "base" else NOTHING)), None),
        ("Parameters", card.count(one.parameters), None),
        ("Trained parameters", card.count(one.trained_parameters), _share(one)),
        ("Training time", card.duration(figures.seconds if figures else None), "All sittings together"),
        ("Training memory", f"{figures.peak_memory_gib:.2g} GiB" if figures else NOTHING, "At its peak"),
        (
            "Training speed",
            f"{card.count(figures.tokens / figures.seconds)} tokens/s" if _timed(made) else NOTHING,
            None,
        ),
        (
            "Evaluation speed",
            f"{card.count(tokens / seconds)} tokens/s" if seconds else NOTHING,
            "Over all its tasks",
        ),
    ]
    if cost := _cost(data.database(), one.fingerprint):
        shown += [
            ("Speed alone", _unit(cost.tokens_per_s, "tokens/s"), f"On {cost.machine}, measured for a gate"),
            ("Latency", _unit(cost.latency_p95_s, "s"), "Of 95 % of the requests at most, measured for a gate"),
            ("Memory", _unit(cost.peak_memory_gib, "GiB"), "At its peak, measured for a gate"),
        ]
    with st.container(key="figures", horizontal=True, gap="medium"):
        for label, value, more in shown:
            st.metric(label, value, help=more and literal(more), width="content")


def _unit(number: float | None, unit: str) -> str:
    return NOTHING if number is None else f"{number:,.3g} {unit}"


def _timed(made: TrainingRow | None) -> bool:
    return bool(made and made.figures and made.figures.seconds and made.figures.tokens)


def _share(one: ListedCandidate) -> str | None:
    if not one.parameters or one.trained_parameters is None:
        return None
    return f"{one.trained_parameters / one.parameters:.2%} of all"


def _training(made: TrainingRow) -> None:
    figures = made.figures
    if figures:
        parts = [f"{figures.steps:,} steps", f"{figures.epochs:.3g} epochs", f"{figures.tokens:,} tokens"]
        if figures.validation_loss is not None:
            best = f"best validation loss {figures.validation_loss:.4g}"
            parts.append(best if figures.best_step is None else f"{best} at step {figures.best_step:,}")
        if figures.resumed:
            parts.append(f"went on from a checkpoint {figures.resumed} times")
        st.caption(" · ".join(parts))
        for warning in figures.warnings:
            st.caption(f"! {literal(warning)}")
    points = _curve(data.database(), made.id)
    drawn = [(title, card.curve_frame(points, curves)) for title, curves in card.CURVES.items()]
    drawn = [(title, frame) for title, frame in drawn if len(frame)]
    if not drawn:
        st.caption("No curves were kept.")
    for row in (drawn[place : place + 2] for place in range(0, len(drawn), 2)):
        for column, (title, frame) in zip(st.columns(2), row, strict=False):
            with column:
                st.markdown(f"**{title}**")
                show_chart(card.curve_chart(frame, title), frame, f"{title} of {made.name}", _described(title, frame))
    with st.expander("Recipe"):
        st.code(harmless(json.dumps(made.recipe, indent=2, ensure_ascii=False)), language="json", wrap_lines=True)


def _described(title: str, frame: Any) -> str:
    ends = [
        f"{name} goes from {curve['Value'].iloc[0]:.4g} at step {curve['Step'].iloc[0]} "
        f"to {curve['Value'].iloc[-1]:.4g} at step {curve['Step'].iloc[-1]}"
        for name, curve in frame.groupby("Curve", sort=False)
    ]
    return f"{title} over the steps of training: {'; '.join(ends)}."


def _commands(made: TrainingRow | None, run: dict[str, Any] | None) -> None:
    if made and made.command:
        st.caption("Train it; the recipe stands above, the data's hashes below.")
        st.code(harmless(made.command, 2000), language="bash", wrap_lines=True)
    if run and run["command"]:
        st.caption("Evaluate it, as its newest result was.")
        st.code(harmless(run["command"], 2000), language="bash", wrap_lines=True)
    versions = {**(made.versions if made else {}), **(run["versions"] if run else {})}
    packages = sorted(versions.keys() - {"python", "tuneboard"})
    pinned = " ".join(f"{name}=={versions[name]}" for name in packages if versions[name])
    if pinned:
        st.caption("With the same versions.")
        st.code(harmless(f"pip install {pinned}", 2000), language="bash", wrap_lines=True)


def _score_columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "Task": st.column_config.TextColumn(pinned=True, width="medium"),
        "Score": number(format="%.4f"),
        "Low": number("95 % low", format="%.4f"),
        "High": number("95 % high", format="%.4f"),
        "Samples": number(format="localized", help="Scored documents"),
        "Of": number(format="localized", help="Documents of the whole task"),
    }


def _evaluation_columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "Evaluated": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
        "Samples": number(format="localized"),
        "Seconds": number(format="%.1f"),
        "Tokens": number(format="localized"),
    }


show()
