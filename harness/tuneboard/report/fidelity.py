"""What checking an engine found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneboard.report.numbers import number
from tuneboard.report.tables import one_line


def check_text(engine: Mapping[str, Any]) -> str:
    """Return two lines for each check: how far the engine is from its reference, and from itself.

    Args:
        engine: Of a run; without ``checks`` there is nothing to say.
    """
    return "\n".join(one_line(line) for check in engine.get("checks", ()) for line in _lines(check))


def _lines(check: Mapping[str, Any]) -> list[str]:
    head = f"engine checked on {check['requests']:,} requests"
    failed = f"; {check['failed']:,} of them without an answer to compare" if check["failed"] else ""
    if check["difference"] is None:
        against = f"{head}: no reference ({check['reason']}){failed}"
    else:
        against = f"{head} against {check['reference']}: {_agreement(check['difference'])}{failed}"
    return [against, f"noise floor (the same requests asked twice): {_agreement(check['noise'])}"]


def _agreement(found: Mapping[str, Any]) -> str:
    parts = []
    if found["logprobs"]:
        parts.append(
            f"{found['logprobs']:,} log-probabilities differ by at most {_small(found['largest'])} "
            f"({_small(found['mean'])} on average), {found['same_greedy']:,} with the same greedy mark"
        )
    if found["texts"]:
        parts.append(f"{found['same_texts']:,} of {found['texts']:,} greedy texts are the same")
    return ", ".join(parts) or "nothing to compare"


def _small(value: float | None) -> str:
    if value is None:  # JSON has no infinity
        return "infinite"
    return f"{value:.1e}" if 0 < value < 0.001 else number(value)
