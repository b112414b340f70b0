"""One sample in full. What models and data sets wrote is shown as text only, never as Markdown or HTML."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from parts import state
from parts.differences import marked
from parts.tables import show_table
from parts.words import NOTHING, harmless, literal, score
from tuneboard.compare.scores import MetricName
from tuneboard.store.sample_pages import OpenSample, Side

#: Pixels from which on a text scrolls inside itself.
_TALL_PX = 420
#: Lines and characters that surely fit into it.
_FEW_LINES, _FEW_CHARS = 16, 900


def show_sample(sample: OpenSample, names: tuple[str, str]) -> None:
    """Show a sample: what was asked, what both sides answered, what was right.

    Args:
        sample: What to show.
        names: Of the base and the candidate.
    """
    _show_prompt(sample)
    sides = (sample.base, sample.candidate)
    for name, side in zip(names, sides, strict=True):
        if side.status != "ok":
            st.caption(f"No answer of {literal(name)}")
            show_text(side.reason or "it has no such sample")
    if any(side.texts for side in sides):
        _show_answers(sample, names)
    if any(side.scores for side in sides):
        _show_scores(sample)
    if not sample.choices or sample.right is None:
        st.caption("Target")
        show_text(sample.target or NOTHING)
    _show_metrics(sides)


def show_text(text: str) -> None:
    """Show text of others as text, scrolling inside itself where it is long."""
    _show_code(harmless(text))


def _show_code(shown: str, language: str | None = None) -> None:
    few = shown.count("\n") < _FEW_LINES and len(shown) < _FEW_CHARS
    st.code(shown, language=language, wrap_lines=True, height="content" if few else _TALL_PX)


def _show_prompt(sample: OpenSample) -> None:
    examples = len(sample.prompt) - len(sample.question)
    whole = examples > 0 and state.value("whole") == "1"
    st.caption("Prompt" if whole or examples <= 0 else "Question")
    show_text(sample.prompt if whole else sample.question)
    if examples > 0:
        state.pick_flag(f"The whole prompt, with its examples ({len(sample.prompt):,} characters)", "whole")


def _show_answers(sample: OpenSample, names: tuple[str, str]) -> None:
    sides = (sample.base, sample.candidate)
    texts = tuple(harmless(_joined(side)) for side in sides)
    differ = texts[0] != texts[1] and all(side.texts for side in sides)
    marks = differ and state.value("marks") != "0"
    shown = marked(*texts) if marks else texts
    for place, role, name, side, text in zip(st.columns(2), ("Base", "Candidate"), names, sides, shown, strict=True):
        with place:
            st.caption(f"{role} · {literal(name)}")
            _show_code(text, "diff" if marks else None)
            if side.counted is not None:
                st.caption("Counted as")
                show_text(side.counted or NOTHING)
    if differ:
        state.pick_flag("Mark differences: − only the base, + only the candidate", "marks", default=True)
    elif all(side.texts for side in sides):
        st.caption("Both answers are the same.")


def _joined(side: Side) -> str:
    if len(side.texts) < 2:
        return "".join(side.texts)
    return "\n".join(f"── answer {number} ──\n{text}" for number, text in enumerate(side.texts, start=1))


def _show_scores(sample: OpenSample) -> None:
    """Show the log-probability of each choice; the chosen and the right one are named by words."""
    choices = sample.choices or ("(the whole text)",)
    base, candidate = (side.scores or (None,) * len(choices) for side in (sample.base, sample.candidate))
    frame = pd.DataFrame(
        {
            "Choice": [cell_text(choice) for choice in choices],
            "Right": ["right" if i == sample.right else "" for i in range(len(choices))],
            "Chosen by": [_chosen_by(sample, i) for i in range(len(choices))],
            "Base": pd.array(base[: len(choices)], dtype="Float64"),
            "Candidate": pd.array(candidate[: len(choices)], dtype="Float64"),
        }
    )
    frame["Difference"] = frame["Candidate"] - frame["Base"]
    number = st.column_config.NumberColumn
    columns = {name: number(name, format="%.3f", width="small") for name in ("Base", "Candidate")}
    columns["Difference"] = number("Difference", format="%+.3f", width="small")
    st.caption("Log-probabilities of the choices" if len(choices) > 1 else "Log-probability")
    show_table(frame, "log-probabilities", columns)


def _chosen_by(sample: OpenSample, place: int) -> str:
    by = [name for name, side in (("base", sample.base), ("candidate", sample.candidate)) if side.chosen == place]
    return "both" if len(by) == 2 else "".join(by)


def _show_metrics(sides: tuple[Side, Side]) -> None:
    names = list(dict.fromkeys([*sides[0].metrics, *sides[1].metrics]))
    lines = [
        f"{_named(name)}  {short_score(sides[0].metrics.get(name))} → {short_score(sides[1].metrics.get(name))}"
        for name in names
    ]
    if lines:
        st.caption("Scores, base → candidate")
        st.text(harmless("\n".join(lines)))


def _named(metric: MetricName) -> str:
    return metric[0] if metric[1] == "none" else f"{metric[0]}, {metric[1]}"


def short_score(value: float | None) -> str:
    """Write a sample's score, most of which are 0 or 1; a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    return score(value) if value % 1 else f"{value:g}"


def cell_text(text: str, most: int = 160) -> str:
    """Return text for a cell of a table: one line, cut."""
    line = " ".join(harmless(text[: most + 1], most + 1).split())
    return line if len(text) <= most else f"{line[:most]}…"
