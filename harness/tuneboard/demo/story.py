"""What a demo's comparison and gates say, in words for someone who has never fine-tuned; from their JSON alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneboard.report.tables import format_table, harmless, one_line
from tuneboard.report.verdict import MARKS

Json = Mapping[str, Any]

_WIDTH = 110
_TREND = {"improved": " ▲", "regressed": " ▼"}
_SHOWN_LINES = 3

_NEW = "math adds; subtraction takes away, which the base has seen in bare equations and never in a story"
_FORGOT = (
    "What to see here: by its score on the new skill alone, {forgot} would be praised. What training on nothing else "
    "did to the rest shows only where the rest is asked too: it was overwritten, which is called forgetting. {passed} "
    "kept the rest, within the margin."
)
_ALL_FORGOT = "What to see here: {forgot} forgot what the base could, and no candidate is without fault."
_NONE_FORGOT = (
    "What to see here: no candidate surely forgot anything. Where a verdict is inconclusive the items are too few to "
    "tell; tuneboard compare says how many would settle it."
)
_GATE = (
    "The gate does not ask whether a score fell, for scores also fall by chance. It asks how far it may have fallen at "
    "worst (95 % sure), and passes what stays within the policy's margin: {margin} points here, which is wide. What "
    "the items cannot settle is neither passed nor failed."
)
_HELD_OUT = (
    "What is held out: no item of the tests stands in a text that was trained on. But of facts only the questions are "
    "held out, the facts were told; and sums ask known people about things that are new to them, with numbers from 1 "
    "to 9 that were seen. Guessing gives 25 % on knowledge, continuation and truth, and next to nothing elsewhere. "
    "Intervals tell what other items could have changed, not what another seed would: tuneboard demo --seed 2 is "
    "another world."
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to tell of."""

    says: Mapping[str, str]
    """Candidate to how it was made."""
    comparison: Json
    """JSON of ``tuneboard compare --flips 1``."""
    gates: Sequence[Json]
    """JSON of ``tuneboard gate``, one for each candidate."""
    tiny: bool
    """Whether base and world are the demo's own."""


def tell(found: Findings) -> str:
    """Return scores, verdicts and what they mean, for a terminal."""
    parts = [_scoreboard(found), *_verdicts(found), *_example(found), *_meaning(found)]
    return harmless("\n\n".join(parts))


def _rows(candidate: Json) -> dict[str, Json]:
    return {row["task"]: row for row in candidate["tasks"] if row["headline"] and row["role"] != "none"}


def _scoreboard(found: Findings) -> str:
    compared = {one["name"]: _rows(one) for one in found.comparison["candidates"]}
    first = max(compared.values(), key=len, default={})
    verdicts = {gate["candidate"]: gate["verdict"] for gate in found.gates}
    titles = [_short(task) + (" (new)" if row["role"] == "target" else "") for task, row in first.items()]
    lines: list[list[object]] = [[found.comparison["base"], *(_percent(row["base"]) for row in first.values()), ""]]
    for name, rows in compared.items():
        cells = [
            None if task not in rows else _percent(rows[task]["candidate"]) + _TREND.get(rows[task]["status"], "")
            for task in first
        ]
        verdict = verdicts.get(name, "-")
        lines.append([name, *cells, f"{MARKS.get(verdict, ' ')} {verdict}"])
    table = format_table(["right answers in %", *titles, "gate"], lines, "l" * (len(titles) + 2))
    made = [f"  {name}: {one_line(said)}" for name, said in found.says.items()]
    legend = "▲ surely better than the base, ▼ surely worse (95 %, corrected for the number of tasks)"
    told = [_NEW] if found.tiny else []
    return "\n".join([table, legend, *told, "", "How they were made:", *made])


def _verdicts(found: Findings) -> Iterator[str]:
    lines = [_verdict_line(gate) for gate in found.gates]
    if lines:
        yield "\n".join(["What the gate says (exit codes: 0 pass, 1 fail, 3 inconclusive):", *lines])


def _verdict_line(gate: Json) -> str:
    rules = gate["rules"]
    not_passed = [rule for rule in rules if rule["verdict"] != "pass"]
    lead = f"{MARKS.get(gate['verdict'], '!')} {gate['candidate']}: "
    if any(rule.get("n") is None for rule in not_passed) or not rules:
        text = "; ".join(one_line(reason) for reason in gate["reasons"])
    elif not_passed:
        text = "; ".join(map(_broken_rule, not_passed))
    else:
        text = _kept_rules(rules)
    return textwrap.fill(lead + text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _broken_rule(rule: Json) -> str:
    moved = f"{_short(rule['task'])} went from {_percent(rule['base'])} to {_percent(rule['candidate'])} %"
    allowed = f"{_points(rule['margin'])} points" if rule["margin"] is not None else "nothing"
    if rule["verdict"] == "fail":
        return f"{moved}, and may lose {allowed}" if rule["rule"] == "not_regress" else f"{moved}: not learnt"
    if rule["rule"] == "not_regress":
        loss = f"{rule['n']} items cannot rule out a loss of {_points(-rule['bound'])} points"
        return f"{moved}; {loss}, {allowed} may be lost"
    return f"{moved}: {rule['n']} items cannot tell whether it was learnt"


def _kept_rules(rules: Sequence[Json]) -> str:
    gained = [
        f"{_short(rule['task'])} rose from {_percent(rule['base'])} to {_percent(rule['candidate'])} %"
        for rule in rules
        if rule["rule"] == "improve"
    ]
    guards = [rule for rule in rules if rule["rule"] == "not_regress" and rule["bound"] is not None]
    if not guards:
        return "; ".join(gained)
    worst = min(guards, key=lambda rule: float(rule["bound"]))
    lost = max(0.0, -worst["bound"])
    declined = [rule for rule in guards if rule["declined"]]
    kept = f"no guard can have lost more than {_points(lost)} points ({_short(worst['task'])}; 95 % sure)"
    return "; ".join([*gained, f"{kept}, {_points(worst['margin'])} may be lost", *map(_decline, declined)])


def _decline(rule: Json) -> str:
    moved = f"from {_percent(rule['base'])} to {_percent(rule['candidate'])} %"
    return f"{_short(rule['task'])} likely declined, {moved}, within that"


def _example(found: Findings) -> Iterator[str]:
    """Show one answer that a failing candidate broke, on the guard that suffered most."""
    failing = [gate for gate in found.gates if gate["verdict"] == "fail"]
    lost = [
        (rule["delta"], gate["candidate"], rule["task"])
        for gate in failing[:1]
        for rule in gate["rules"]
        if rule["verdict"] == "fail" and rule["rule"] == "not_regress"
    ]
    if not lost:
        return
    _, name, task = min(lost)
    flips = [flip for one in found.comparison["candidates"] for flip in one.get("flips", ())]
    for flip in flips:
        if (flip["candidate"], flip["task"], flip["direction"]) == (name, task, "broke"):
            lines = [
                f"One of the {_short(task)} items that {name} broke:",
                *(f"    {line}" for line in flip["prompt"].strip().splitlines()),
                f"  {found.comparison['base']} answers: {_answer(flip['base_answer'])}",
                f"  {name} answers: {_answer(flip['candidate_answer'])}",
            ]
            yield "\n".join(lines)
            return


def _meaning(found: Findings) -> Iterator[str]:
    verdicts = {gate["candidate"]: gate["verdict"] for gate in found.gates}
    passed = [name for name, verdict in verdicts.items() if verdict == "pass"]
    forgot = [
        one["name"]
        for one in found.comparison["candidates"]
        if verdicts.get(one["name"]) == "fail" and one["forgetting"]["lost"]
    ]
    if forgot and passed:
        yield _paragraph(_FORGOT.format(forgot=_listed(forgot), passed=_listed(passed)))
    elif forgot:
        yield _paragraph(_ALL_FORGOT.format(forgot=_listed(forgot)))
    else:
        yield _paragraph(_NONE_FORGOT)
    margins = [rule["margin"] for gate in found.gates for rule in gate["rules"] if rule["margin"] is not None]
    if margins:
        yield _paragraph(_GATE.format(margin=_points(margins[0])))
    if found.tiny:
        yield _paragraph(_HELD_OUT)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def _answer(text: str) -> str:
    """Write an answer in one line, as far as it is worth reading."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[:_SHOWN_LINES]) or "(nothing)"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _short(task: str) -> str:
    return task.removeprefix("demo_")


def _percent(score: float | None) -> str:
    return "-" if score is None else f"{100 * score:.0f}"


def _points(difference: float) -> str:
    return f"{100 * difference:.1f}".removesuffix(".0")
