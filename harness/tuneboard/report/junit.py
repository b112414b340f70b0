"""A verdict as JUnit XML, which every CI system shows: a case per rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from tuneboard.compare import Flip
from tuneboard.gates import RuleVerdict
from tuneboard.report.verdict import GateReport, headline

#: What XML 1.0 cannot hold, not even escaped; models write all of it.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Characters of a rule's output, and of each prompt or answer in it: CI systems cut or refuse large files.
_OUTPUT_CHARS = 16_000
_TEXT_CHARS = 600


def junit_xml(report: GateReport) -> str:
    """Write a verdict as JUnit XML.

    A failed rule is a failure, an invalid one an error. An inconclusive one is skipped, or a failure where the policy
    says so. Where nothing could be judged, one case says why. Samples that changed stand in ``system-out``.

    Args:
        report: What the gate found.
    """
    verdict = report.verdict
    cases = [_case(report, place, rule) for place, rule in enumerate(verdict.rules)]
    if not cases:
        cases = [_plain_case(report)]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    totals = {key: str(count) for key, count in counts.items()} | {"time": f"{report.seconds:.3f}"}
    root = ET.Element("testsuites", {"name": "tuneboard gate", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": _clean(f"gate {verdict.policy}"), **totals})
    properties = ET.SubElement(suite, "properties")
    said = {"verdict": verdict.verdict, "exit_code": verdict.exit_code, "base": verdict.base}
    for name, value in (said | {"candidate": verdict.candidate}).items():
        ET.SubElement(properties, "property", {"name": name, "value": _clean(str(value))})
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = _clean("\n".join([headline(verdict), *verdict.reasons, *report.warnings]))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(report: GateReport, place: int, rule: RuleVerdict) -> ET.Element:
    name = " ".join(part for part in (rule.name, rule.filter if rule.filter not in ("", "none") else "") if part)
    case = ET.Element("testcase", {"classname": _classname(report), "name": _clean(name), "time": "0"})
    message = _clean(rule.reason)
    if rule.verdict == "fail":
        _outcome(case, "failure", "regression" if rule.rule == "not_regress" else rule.rule, message)
    elif rule.verdict == "invalid":
        _outcome(case, "error", "invalid", message)
    elif rule.verdict == "inconclusive" and report.verdict.on_inconclusive == "fail":
        _outcome(case, "failure", "inconclusive", message)
    elif rule.verdict == "inconclusive":
        ET.SubElement(case, "skipped", {"message": message})
    output = "\n\n".join([rule.reason, *map(_flip, report.flips_of(place))])
    ET.SubElement(case, "system-out").text = _clean(_cut(output, _OUTPUT_CHARS))
    return case


def _plain_case(report: GateReport) -> ET.Element:
    case = ET.Element("testcase", {"classname": _classname(report), "name": "comparison", "time": "0"})
    kind = {"fail": "failure", "invalid": "error", "inconclusive": "skipped"}.get(report.verdict.verdict)
    if kind is not None:
        _outcome(case, kind, report.verdict.verdict, _clean("; ".join(report.verdict.reasons)))
    return case


def _outcome(case: ET.Element, tag: str, kind: str, message: str) -> None:
    attributes = {"message": message} | ({} if tag == "skipped" else {"type": kind})
    ET.SubElement(case, tag, attributes).text = message


def _classname(report: GateReport) -> str:
    # Dots make packages in most viewers.
    return _clean(f"tuneboard.gate.{report.verdict.policy.replace('.', '_')}")


def _flip(flip: Flip) -> str:
    return "\n".join(flip_lines(flip, _TEXT_CHARS))


def flip_lines(flip: Flip, most: int) -> list[str]:
    """Return a sample that changed as lines: what it is, the end of its prompt, the target, both answers.

    Args:
        flip: With texts.
        most: Characters of each text.
    """
    answers: Sequence[tuple[str, str, float | None]] = (
        ("target", flip.target, None),
        ("base", flip.base_answer, flip.base_score),
        ("candidate", flip.candidate_answer, flip.candidate_score),
    )
    prompt = flip.prompt if len(flip.prompt) <= most else "…" + flip.prompt[-most:]
    lines = [f"{flip.task} {flip.doc_id}: {flip.direction}", prompt]
    for name, text, score in answers:
        lines.append(f"→ {name}: {_cut(text, most)}" + ("" if score is None else f"  ({score:g})"))
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
