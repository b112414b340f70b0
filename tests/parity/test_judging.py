"""What parity lets pass: rounding that double precision explains, in few requests, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import judging
from parity.sides import Outcome, Subject

SUBJECT = Subject("none", Path("model"), Path("adapter"))


def outcome(log_probability: float, others: int = 1999) -> Outcome:
    responses = [(log_probability, False), *[(-1.0, False)] * others]
    fixed = {"doc_hash": "d", "prompt_hash": "p", "target": "0", "metrics": {"acc": 1.0}}
    arguments = [("context", " continuation")] * len(responses)
    sample = fixed | {"responses": responses, "arguments": arguments}
    return Outcome({"task": {"acc,none": 1.0}}, {"task": {(0, "none"): sample}})


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "in_double_precision", lambda subject, with_adapter, arguments: -300.0)


def test_rounding_on_either_side_of_double_precision_is_listed() -> None:
    report = judging.compare("task", outcome(-300.00006), outcome(-299.99994), SUBJECT, False)
    assert len(report.rounded) == 1 and "-6.0e-05 against +6.0e-05" in report.line("task")


def test_what_is_closer_is_not_listed() -> None:
    assert judging.compare("task", outcome(-300.00004), outcome(-299.99996), SUBJECT, False).rounded == []


@pytest.mark.parametrize(("ours", "theirs"), [(-300.00011, -300.0), (-300.0, -300.00011), (-299.0, -300.0)])
def test_either_side_being_further_from_double_precision_fails(ours: float, theirs: float) -> None:
    with pytest.raises(AssertionError, match="in double precision"):
        judging.compare("task", outcome(ours), outcome(theirs), SUBJECT, False)


def test_more_than_one_request_in_a_thousand_fails() -> None:
    with pytest.raises(AssertionError, match="double precision"):
        judging.compare("task", outcome(-300.00006, 900), outcome(-299.99994, 900), SUBJECT, False)
