"""What gates said over time, and what they hold candidates against."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from parts.charts import STATUS_COLOURS, show_chart
from parts.data import cached, database
from parts.drawing import FIT_WIDTH
from parts.state import page_link, pick, put, value
from parts.tables import show_table
from parts.words import STATUS, literal

from tuneboard.store.overview import all_baselines
from tuneboard.store.verdicts import VerdictRow, kept_verdicts

_OUTCOMES = ("pass", "fail", "inconclusive", "invalid")
_SHAPES = ("circle", "cross", "diamond", "triangle-up")
_ALL = "all"
#: Days after which a baseline is called old; it may still be good.
_OLD_DAYS = 90
#: Spans above which times of day say nothing.
_LONG = timedelta(days=4)

_kept = cached(kept_verdicts)


def main() -> None:
    """Show the page."""
    st.title("Gates", anchor=False)
    db = database()
    kept = _kept(db)
    if kept:
        _show_history(kept)
    else:
        st.text("No gate has judged a candidate of this database yet. A policy says when a candidate may ship:")
        st.code(f"tuneboard gate quick --candidate CANDIDATE --db {db}", language="bash")
    st.subheader("Baselines", anchor=False)
    # Read anew each time: they are files of the working folder, and the age of today is wanted.
    _show_baselines(all_baselines(db), datetime.now(UTC).replace(tzinfo=None))


def _show_history(kept: Sequence[VerdictRow]) -> None:
    left, middle, right = st.columns(3)
    with left:
        policies = sorted({one.policy for one in kept})
        policy = pick("Policy", "policy", [_ALL, *policies])
    with middle:
        candidate = pick("Candidate", "candidate", [_ALL, *sorted({one.candidate for one in kept})])
    with right:
        outcome = pick("Verdict", "verdict", [_ALL, *_OUTCOMES])
    found = [
        one
        for one in kept
        if policy in (_ALL, one.policy) and candidate in (_ALL, one.candidate) and outcome in (_ALL, one.verdict)
    ]
    if not found:
        st.info("No verdict fits.")
        return
    frame = _history(found)
    counts = ", ".join(f"{count} {word}" for word, count in frame["verdict"].value_counts().items())
    show_chart(_timeline(frame), frame, "verdicts over time", f"{len(found)} verdicts over time: {counts}.")
    config = st.column_config
    chosen = show_table(
        frame.drop(columns="outcome"),
        "verdicts",
        {
            "judged": config.DatetimeColumn("judged (UTC)", format="YYYY-MM-DD HH:mm"),
            "decided by": config.TextColumn(width="large"),
        },
        on_select=True,
    )
    asked = value("judged")
    if chosen and (wanted := found[chosen[0]].judged.isoformat()) != asked:
        asked = wanted
        put(judged=asked)
    _show_verdict(next((one for one in found if one.judged.isoformat() == asked), found[0]))


def _history(found: Sequence[VerdictRow]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "judged": one.judged,
                "verdict": STATUS[one.verdict].label,
                "policy": one.policy,
                "candidate": one.candidate,
                "base": one.base,
                "rules": len(one.content.get("rules", ())),
                "failed": sum(rule["verdict"] == "fail" for rule in one.content.get("rules", ())),
                "decided by": next(iter(one.content.get("reasons", ())), ""),
                "outcome": one.verdict,
            }
            for one in found
        ]
    )


def _timeline(frame: pd.DataFrame) -> alt.Chart:
    lanes = list(dict.fromkeys(frame["candidate"]))[:12]
    shown = frame[frame["candidate"].isin(lanes)]
    words = [STATUS[outcome].label for outcome in _OUTCOMES]
    legend = alt.Legend(title=None, orient="top")
    form = "%Y-%m-%d" if frame["judged"].max() - frame["judged"].min() > _LONG else "%m-%d %H:%M"
    return (
        alt.Chart(shown)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(
            x=alt.X("judged:T", title=None, scale=alt.Scale(padding=20), axis=alt.Axis(format=form, tickCount=5)),
            y=alt.Y(
                "candidate:N",
                title=None,
                scale=alt.Scale(domain=lanes),
                axis=alt.Axis(labelLimit=180, grid=True, ticks=False, domain=False),
            ),
            color=alt.Color(
                "verdict:N",
                legend=legend,
                scale=alt.Scale(domain=words, range=[STATUS_COLOURS[outcome] for outcome in _OUTCOMES]),
            ),
            shape=alt.Shape("verdict:N", legend=legend, scale=alt.Scale(domain=words, range=list(_SHAPES))),
            tooltip=["candidate:N", "policy:N", "verdict:N", alt.Tooltip("judged:T", format="%Y-%m-%d %H:%M")],
        )
        .properties(autosize=FIT_WIDTH, height=30 * len(lanes) + 10)
    )


def _show_verdict(one: VerdictRow) -> None:
    content, status = one.content, STATUS[one.verdict]
    st.subheader(f"{status.label}: {literal(one.candidate)} against {literal(one.base)}", anchor=False)
    said = f"policy {literal(one.policy)}, {one.judged:%Y-%m-%d %H:%M} UTC, exit code {one.exit_code}"
    if "alpha" in content:
        said += f", level {content['alpha']:g}"
    if content.get("on_inconclusive", "report") != "report":
        said += f", inconclusive counts as {literal(content['on_inconclusive'])}"
    st.caption(said)
    if one.current is False:
        st.caption(f"{literal(one.candidate)} has stood for other weights since.")
    st.markdown("\n".join(f"- {literal(reason, 600)}" for reason in content.get("reasons", ())))
    for warning in content.get("warnings", ()):
        st.warning(literal(warning, 600), icon=":material/history:")
    rules = pd.DataFrame([_rule(rule) for rule in content.get("rules", ())])
    if len(rules):
        form = {
            "base": "%.4f",
            "candidate": "%.4f",
            "difference": "%+.4f",
            "bound": "%+.4f",
            "margin": "%.4f",
            "p": "%.2g",
        }
        config = {name: st.column_config.NumberColumn(format=text) for name, text in form.items()}
        rules = rules.drop(columns=[name for name in ("value", "decided after") if rules[name].isna().all()])
        show_table(rules, "rules of the verdict", config)
    if one.verdict != "invalid" and not one.base.startswith("baseline:"):
        page_link("Compare these two", "compare", base=one.base, candidate=[one.candidate])


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    stop = rule.get("stop") or {}
    return {
        "verdict": STATUS[rule["verdict"]].label,
        "rule": rule["rule"],
        "task": rule["task"],
        "metric": rule["metric"],
        "samples": rule.get("n"),
        "base": rule.get("base", rule.get("base_cost")),
        "candidate": rule.get("candidate", rule.get("candidate_cost")),
        "difference": rule.get("delta"),
        "bound": rule.get("bound"),
        "margin": rule.get("margin"),
        "value": rule.get("value"),
        "p": rule.get("p_rule_corrected"),
        "decided after": f"{stop['n']:,} of {stop['n_full']:,} samples" if stop else None,
        "reason": rule["reason"],
    }


def _show_baselines(found: Sequence[dict[str, Any]], now: datetime) -> None:
    if not found:
        st.text("There is no baseline in results/baselines. Blessed results stand in for a base in gates:")
        st.code("tuneboard baseline bless CANDIDATE --as main", language="bash")
        return
    frame = pd.DataFrame([_baseline(one, now) for one in found])
    old = frame["age (days)"].fillna(0) > _OLD_DAYS
    show_table(
        frame,
        "baselines",
        {
            "blessed": st.column_config.DatetimeColumn("blessed (UTC)", format="YYYY-MM-DD HH:mm"),
            "samples": st.column_config.NumberColumn(format="localized"),
            "why": st.column_config.TextColumn(width="large"),
        },
    )
    if old.any():
        names = ", ".join(literal(name) for name in frame["baseline"][old])
        st.caption(f"Older than {_OLD_DAYS} days: {names}.")


def _baseline(one: dict[str, Any], now: datetime) -> dict[str, Any]:
    blessed = datetime.fromisoformat(one["blessed"].removesuffix("Z")) if "blessed" in one else None
    good = one["status"] == "good"
    state = "✓ good" if good else "▼ stale" if blessed else "! unreadable"
    return {
        "baseline": one["name"],
        "state": state,
        "candidate": one.get("candidate"),
        "blessed": blessed,
        "age (days)": (now - blessed).days if blessed else None,
        "tasks": one.get("tasks"),
        "samples": one.get("samples"),
        "why": "" if good else one["status"],
    }


main()
