from __future__ import annotations

from typing import Any

from tuneboard.demo.story import Findings, tell


def row(task: str, role: str, base: float, candidate: float, status: str) -> dict[str, Any]:
    return {"task": task, "role": role, "headline": True, "base": base, "candidate": candidate, "status": status}


def rule(name: str, task: str, base: float, candidate: float, bound: float, verdict: str) -> dict[str, Any]:
    delta = candidate - base
    fields = {"rule": name, "task": task, "base": base, "candidate": candidate, "delta": delta, "bound": bound}
    return fields | {"verdict": verdict, "margin": 0.1, "n": 200, "reason": "", "declined": False}


def candidate(name: str, rows: list[dict[str, Any]], lost: list[str], flips: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "tasks": rows, "forgetting": {"lost": lost}, "flips": flips}


FLIP = {
    "candidate": "tiny-skill",
    "task": "demo_math",
    "direction": "broke",
    "prompt": "Question: Tom has 3 apples. Tom gets 4 more.\nAnswer:",
    "base_answer": " 3 + 4 = 7\n#### 7",
    "candidate_answer": "\x1b[31m 3 - 4 = 1\n#### 1",
}
SKILL = candidate(
    "tiny-skill",
    [row("demo_subtraction", "target", 0.07, 1.0, "improved"), row("demo_math", "guard", 1.0, 0.02, "regressed")],
    ["demo_math"],
    [FLIP],
)
REPLAY = candidate(
    "tiny-replay",
    [row("demo_subtraction", "target", 0.07, 0.99, "improved"), row("demo_math", "guard", 1.0, 0.98, "equivalent")],
    [],
    [],
)
FAILS = {
    "candidate": "tiny-skill",
    "verdict": "fail",
    "reasons": ["..."],
    "rules": [
        rule("improve", "demo_subtraction", 0.07, 1.0, 0.9, "pass"),
        rule("not_regress", "demo_math", 1.0, 0.02, -0.99, "fail"),
    ],
}
PASSES = {
    "candidate": "tiny-replay",
    "verdict": "pass",
    "reasons": ["all rules pass"],
    "rules": [
        rule("improve", "demo_subtraction", 0.07, 0.99, 0.88, "pass"),
        rule("not_regress", "demo_math", 1.0, 0.98, -0.043, "pass"),
    ],
}
SAYS = {"tiny-skill": "LoRA, the new skill only", "tiny-replay": "LoRA with replay"}


def told(candidates: list[Any], gates: list[Any], tiny: bool = True) -> str:
    return tell(Findings(SAYS, {"base": "tiny-base", "candidates": candidates}, gates, tiny))


def test_scores_stand_in_percent_beside_the_verdict() -> None:
    lines = told([SKILL, REPLAY], [FAILS, PASSES]).splitlines()
    assert lines[0].split() == ["right", "answers", "in", "%", "subtraction", "(new)", "math", "gate"]
    assert lines[2].split() == ["tiny-base", "7", "100"]
    assert lines[3].split() == ["tiny-skill", "100", "▲", "2", "▼", "✗", "fail"]
    assert lines[4].split() == ["tiny-replay", "99", "▲", "98", "✓", "pass"]


def test_a_failure_names_what_was_lost_and_what_may_be_lost() -> None:
    text = told([SKILL, REPLAY], [FAILS, PASSES])
    assert "✗ tiny-skill: math went from 100 to 2 %, and may lose 10 points" in text
    assert "✓ tiny-replay: subtraction rose from 7 to 99 %; no guard can have lost more than 4.3 points (math;" in text


def test_a_decline_that_passes_is_told_as_one() -> None:
    declined = rule("not_regress", "demo_truth", 0.41, 0.37, -0.079, "pass")
    declined["declined"] = True
    text = " ".join(told([REPLAY], [PASSES | {"rules": [*PASSES["rules"], declined]}]).split())
    assert "no guard can have lost more than 7.9 points (truth; 95 % sure), 10 may be lost" in text
    assert "truth likely declined, from 41 to 37 %, within that" in text and "math likely" not in text


def test_a_broken_answer_is_shown_beside_the_base_s_without_control_characters() -> None:
    text = told([SKILL, REPLAY], [FAILS, PASSES])
    assert "One of the math items that tiny-skill broke" in text
    assert "tiny-base answers: 3 + 4 = 7 / #### 7" in text
    assert "3 - 4 = 1 / #### 1" in text and "\x1b" not in text


def test_the_moral_names_who_forgot_and_who_did_not() -> None:
    text = " ".join(told([SKILL, REPLAY], [FAILS, PASSES]).split())
    assert "tiny-skill would be praised" in text
    assert "tiny-replay kept the rest, within the margin" in text
    assert "10 points here" in text
    assert "the facts were told" in text and "another seed" in text


def test_what_is_not_settled_is_not_called_forgetting() -> None:
    open_rule = rule("not_regress", "demo_math", 0.5, 0.46, -0.12, "inconclusive")
    gate = {"candidate": "tiny-replay", "verdict": "inconclusive", "reasons": [], "rules": [open_rule]}
    text = " ".join(told([REPLAY], [gate], tiny=False).split())
    assert "200 items cannot rule out a loss of 12 points, 10 points may be lost" in text
    assert "no candidate surely forgot anything" in text
    assert "What is held out" not in text, "that is about the demo's own world"


def test_a_gate_that_is_invalid_gives_its_reasons() -> None:
    gate = {"candidate": "tiny-replay", "verdict": "invalid", "reasons": ["the adapter was not applied"], "rules": []}
    assert "! tiny-replay: the adapter was not applied" in told([REPLAY], [gate])
