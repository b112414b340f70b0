"""Log-probabilities that are too far apart fail, and the failure says which side is off."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import judging
from parity.sides import Outcome, Subject

SUBJECT = Subject("none", Path("model"), Path("adapter"))


def outcome(log_probability: float) -> Outcome:
    responses = [(log_probability, False), (-1.0, False), (-2.0, False)]
    fixed = {"doc_hash": "d", "prompt_hash": "p", "target": "0", "metrics": {"acc": 1.0}}
    arguments = [("context", " continuation")] * len(responses)
    sample = fixed | {"responses": responses, "arguments": arguments}
    return Outcome({"task": {"acc,none": 1.0}}, {"task": {(0, "none"): sample}})


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "in_double_precision", lambda subject, with_adapter, arguments: -300.0)


def test_what_is_closer_than_the_bound_passes() -> None:
    assert judging.compare("task", outcome(-300.00004), outcome(-299.99996), SUBJECT, False).requests == 3


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (-300.00011, -300.0, r"ours -1.1e-04 and lm-eval's \+0.0e\+00"),
        (-300.00006, -299.99994, "ours -6.0e-05 and lm-eval's .6.0e-05"),
    ],
)
def test_what_is_further_apart_fails_and_says_which_side_is_off(ours: float, theirs: float, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        judging.compare("task", outcome(ours), outcome(theirs), SUBJECT, False)
