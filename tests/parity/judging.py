"""Holds the outcomes of two sides against each other, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from parity.sides import Outcome, Subject, in_double_precision

#: Largest difference between two log-probabilities of one request, in float32.
LOGPROB_TOLERANCE = 1e-4
#: And in double precision, where nearly all are within 1e-12; but Llama's norms round to float32 even there, now and
#: then to the other side.
DOUBLE_TOLERANCE = 1e-6
#: Two tokens whose log-probabilities are closer than this may be chosen either way.
NEAR_TIE = 1e-4


@dataclass
class Report:
    """What a comparison saw."""

    samples: int = 0
    requests: int = 0
    texts: int = 0
    worst: float = 0.0
    partings: list[str] = field(default_factory=list)

    def line(self, title: str) -> str:
        """One line about one task."""
        what = f"{self.texts} texts" if self.texts else f"{self.requests} requests, worst difference {self.worst:.1e}"
        return f"{title}: {self.samples} samples, {what}" + "".join(f"\n    {parting}" for parting in self.partings)


def compare(task: str, mine: Outcome, theirs: Outcome, subject: Subject, with_adapter: bool) -> Report:
    """Assert that two outcomes of one task are equal; returns how close they are."""
    report = Report()
    assert mine.samples[task].keys() == theirs.samples[task].keys()
    for key, reference in theirs.samples[task].items():
        sample = mine.samples[task][key]
        where = f"{task} {key}"
        for name in ("doc_hash", "prompt_hash", "target"):
            assert sample[name] == reference[name], f"{where}: {name}"
        parted = _compare_responses(where, sample, reference, report, subject, with_adapter)
        if not parted:
            assert_metrics_equal(where, sample["metrics"], reference["metrics"])
        report.samples += 1
    if not report.partings:
        assert_metrics_equal(task, mine.metrics[task], theirs.metrics[task])
    return report


def assert_metrics_equal(where: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Counts are equal; a share of probabilities (TruthfulQA's mc2) moves with their rounding."""
    tolerance = LOGPROB_TOLERANCE if "mc2" in where else 1e-9
    assert set(mine) == set(theirs), where
    for name, value in theirs.items():
        if isinstance(value, int | float):
            assert mine[name] == pytest.approx(value, abs=tolerance, nan_ok=True), f"{where}: {name}"


def _compare_responses(
    where: str, sample: Any, reference: Any, report: Report, subject: Subject, with_adapter: bool
) -> bool:
    assert len(sample["responses"]) == len(reference["responses"]), where
    parted = False
    pairs = zip(sample["responses"], reference["responses"], strict=True)
    for number, (ours, theirs) in enumerate(pairs):
        if isinstance(theirs, str):
            report.texts += 1
            if ours != theirs:
                report.partings.append(f"{where}: " + explain_parting(reference, ours, theirs, subject, with_adapter))
                parted = True
            continue
        report.requests += 1
        difference = abs(ours[0] - theirs[0])
        report.worst = max(report.worst, difference)
        if difference >= LOGPROB_TOLERANCE:
            exact = in_double_precision(subject, with_adapter, reference["arguments"][number])
            raise AssertionError(f"{where}, answer {number}: " + explain_difference(ours[0], theirs[0], exact))
        assert ours[1] == theirs[1], f"{where}: is_greedy"
    return parted


def explain_difference(ours: float, theirs: float, exact: float) -> str:
    """Say how far either log-probability is from double precision: which side is off, and by how much."""
    return f"ours {ours - exact:+.1e} and lm-eval's {theirs - exact:+.1e} from {exact:.6f} in double precision"


def explain_parting(reference: Any, ours: str, theirs: str, subject: Subject, with_adapter: bool) -> str:
    """Find the token at which two texts part, in double precision; anything but a near tie fails.

    Args:
        reference: The sample as lm-eval has it; its prompt is generated from again.
        ours: One text.
        theirs: The other.
        subject: Model and adapter.
        with_adapter: Whether the adapter was on.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(subject.model)
    model = AutoModelForCausalLM.from_pretrained(subject.model, dtype=torch.float32)
    if with_adapter:
        model = PeftModel.from_pretrained(model, subject.adapter)
    model = model.double().eval()
    common = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    ids = tokenizer(reference["prompt"])["input_ids"][-(model.config.max_position_embeddings - 256) :]
    start = len(ids)
    while len(ids) < start + 256:
        with torch.inference_mode():
            best = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(2)
        gap = float(best.values[0] - best.values[1])
        ids.append(int(best.indices[0]))
        other = tokenizer.decode([*ids[start:-1], int(best.indices[1])])
        text = tokenizer.decode(ids[start:])
        if gap < NEAR_TIE and {ours[: len(text)], theirs[: len(text)], ours[: len(other)]} & {text, other}:
            return (
                f"parts after {common} characters, at token {len(ids) - start}, where the best two are {gap:.1e} apart"
            )
        if len(text) > common + 8:
            break
    raise AssertionError(f"texts part without a near tie after {common} characters: {ours[:200]!r} / {theirs[:200]!r}")
