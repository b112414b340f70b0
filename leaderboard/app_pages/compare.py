"""What changed from a base to its candidates, and is it real?"""

from __future__ import annotations

import pandas as pd
import streamlit as st
from parts.change_table import show_changes
from parts.charts import show_chart
from parts.comparing import Chosen, Compared, choose, choose_suite, compared, headlines, levels
from parts.data import database
from parts.forest import forest, forest_rows
from parts.sentences import SEEDS, refusals, summary, tests
from parts.state import page_link, pick, pick_flag, pick_many
from parts.tables import show_table
from parts.tradeoff import forgetting_plot, forgetting_rows
from parts.words import literal

from tuneboard.store.baselines import is_baseline

_HOW = (
    "Each line is the 95 % interval of a difference, taken sample by sample; to the right is better. The grey band is "
    "the margin: the largest difference that does not matter. ▲ improved and ▼ regressed are significant after "
    "correction (Holm among targets and among guards, Benjamini-Hochberg among the rest); ≈ equivalent lies surely "
    "within the margin; ? inconclusive needs more samples."
)


def main() -> None:
    """Show the page."""
    st.title("Compare", anchor=False)
    db = database()
    chosen = choose(db)
    left, middle, right = st.columns([1, 1, 1])
    with left:
        suite = choose_suite(db)
    found = compared(db, chosen, suite)
    tops = headlines(found.rows, "benchmarks")
    with middle:
        tasks = pick_many("Tasks", "task", list(dict.fromkeys(tops["task"])) if len(tops) else [], placeholder="all")
    with right:
        level = pick("Detail", "detail", levels(found.rows)) or "benchmarks"
    _show_warnings(found)
    if found.rows.empty:
        st.info("Nothing of these can be compared.")
        st.stop()
    _show_summaries(found, headlines(found.rows, "benchmarks", tasks))
    rows = headlines(found.rows, level, tasks)
    _show_forest(chosen, rows)
    st.subheader("Every difference", anchor=False)
    every = pick_flag("every metric, not only the one that stands for the task", "metrics")
    shown = found.rows[found.rows["task"].isin(set(rows["task"]))] if every else rows
    show_changes(shown, chosen)
    _show_noise(rows, chosen)
    _show_forgetting(found)
    with st.expander("Which tests were used"):
        st.markdown("\n".join(f"- {line}" for line in tests(rows)))


def _show_warnings(found: Compared) -> None:
    for warning in found.warnings:
        st.warning(literal(warning, 600), icon=":material/history:")
    for one in found.candidates:
        lines = refusals(one)
        if one.reason is not None:
            st.error("\n\n".join(lines), icon=":material/block:")
        elif lines:
            st.warning("Not compared: " + "\n\n".join(lines), icon=":material/rule:")
        for remark in one.notes:
            st.caption(f"{literal(one.name)}: {literal(remark, 600)}")


def _show_summaries(found: Compared, rows: pd.DataFrame) -> None:
    for one in found.candidates:
        if one.reason is None:
            with st.container(gap=None):
                st.markdown(summary(one.name, rows[rows["candidate_name"] == one.name]))
                # A baseline keeps no texts to look at.
                if not is_baseline(found.base):
                    page_link("Look at its samples", "samples", base=found.base, candidate=one.name)


def _show_forest(chosen: Chosen, rows: pd.DataFrame) -> None:
    st.subheader("Differences to " + literal(chosen.base), anchor=False)
    unit, other = forest_rows(rows)
    for part, relative in ((unit, False), (other, True)):
        if part.empty:
            continue
        name = "differences relative to the base" if relative else "differences"
        if relative:
            st.caption("On scales of their own, as shares of the base's score:")
        description = (
            f"Forest plot of {part['task'].nunique()} tasks: differences of {', '.join(chosen.candidates)} to "
            f"{chosen.base} with 95 % intervals and margins. " + _counted(part)
        )
        show_chart(forest(part, chosen.candidates, relative), part, name, description)
    st.caption(f"{_HOW} {SEEDS}")


def _counted(rows: pd.DataFrame) -> str:
    counts = rows["status"].value_counts()
    return ", ".join(f"{count} {status}" for status, count in counts.items()) + "."


def _show_noise(rows: pd.DataFrame, chosen: Chosen) -> None:
    known = rows.dropna(subset=["noise_floor"])
    if known.empty:
        st.caption(
            "Noise floor: not measured, since nothing was evaluated repeatedly. `tuneboard evaluate … --repeat 3` "
            "measures how far two evaluations of one candidate lie apart."
        )
        return
    within = int(known["within_noise"].sum())
    st.caption(
        f"Noise floor: the grey bar around zero is how far two evaluations of one candidate lie apart (95 %). "
        f"{within} of {len(known)} differences to {literal(chosen.base)} are no larger."
    )


def _show_forgetting(found: Compared) -> None:
    st.subheader("Forgetting", anchor=False)
    rows = forgetting_rows(found.candidates)
    whole = rows.dropna(subset=["gained on targets", "lost on guards"])
    if rows.empty:
        st.caption(
            "What was gained on targets is held against what was lost on guards. None of these tasks has a role; a "
            "suite gives one to its tasks with `role: target` or `role: guard`."
        )
        return
    if whole.empty:
        missing = "target" if rows["gained on targets"].isna().all() else "guard"
        st.caption(f"None of these tasks is a {missing}, so that there is nothing to hold against the other side.")
    else:
        description = (
            "Gain on targets against loss on guards, a point per candidate: "
            + "; ".join(
                f"{row.candidate} gained {row.gain:+.4f} and lost {row.loss:.4f}"
                for row in whole.rename(columns={"gained on targets": "gain", "lost on guards": "loss"}).itertuples()
            )
            + "."
        )
        show_chart(forgetting_plot(whole), whole, "forgetting", description)
    formats = {"gained on targets": "%+.4f", "lost on guards": "%.4f", "front": "%d"}
    show_table(rows, "forgetting", {name: st.column_config.NumberColumn(format=form) for name, form in formats.items()})


main()
