"""Whether a model's confidence in its answers is deserved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuneboard.stats.single import Interval, wilson_interval

#: Bins of reliability, as in Guo et al. 2017; fewer where a bin would hold less than ``FEWEST_IN_BIN``.
BINS = 15
FEWEST_IN_BIN = 10
#: Shares of the most confident answers, of which the accuracy is told.
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers of like confidence."""

    n: int
    low: float
    """Least confidence in the bin."""
    high: float
    confidence: float
    """Mean."""
    accuracy: float
    ci: Interval
    """Of the accuracy, 95 % (Wilson)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The most confident answers alone."""

    coverage: float
    """Share of all answers."""
    n: int
    accuracy: float
    least_confidence: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How confidence and accuracy go together, over a whole task."""

    ece: float
    """Expected calibration error, 0 to 1."""
    brier: float
    """0 to 2; for two choices twice the value of the one-sided definition."""
    log_loss: float
    """Mean negative log-probability of the right answer, in nats."""
    confidence: float
    """Mean."""
    aurc: float
    """Mean error over all coverages; lower is better."""
    bins: tuple[ReliabilityBin, ...]
    selective: tuple[Selection, ...]


def choice_probabilities(logprobs: Sequence[float]) -> list[float]:
    """Return the probabilities of choices, as if one of them had to be answered (softmax).

    Args:
        logprobs: Natural log-probability of each choice; at least one is finite.
    """
    highest = max(logprobs)
    shares = [math.exp(one - highest) for one in logprobs]
    whole = math.fsum(shares)
    return [share / whole for share in shares]


def calibration_of(probabilities: Sequence[Sequence[float]], gold: Sequence[int]) -> Calibration:
    """Weigh the confidence of answers against whether they are right; the answer is the likeliest choice.

    Sources: Guo et al. 2017, "On calibration of modern neural networks" (ECE, eq. 3); Nguyen and O'Connor 2015,
    "Posterior calibration and exploratory analysis for natural language processing models" (bins of equal mass); Brier
    1950, "Verification of forecasts expressed in terms of probability"; Geifman and El-Yaniv 2017, "Selective
    classification for deep neural networks" (accuracy at a coverage); Geifman et al. 2019, "Bias-reduced uncertainty
    estimation for deep neural classifiers" (AURC).

    Args:
        probabilities: Of the choices of each sample, at least one sample.
        gold: Place of the right choice of each.

    Raises:
        ValueError: The lengths differ, or there is no sample.
    """
    if len(probabilities) != len(gold) or not gold:
        raise ValueError(f"{len(probabilities)} samples and {len(gold)} right answers; expected one each, at least one")
    said = [max(range(len(row)), key=row.__getitem__) for row in probabilities]
    confidence = [row[place] for row, place in zip(probabilities, said, strict=True)]
    correct = [place == right for place, right in zip(said, gold, strict=True)]
    n = len(gold)
    bins = reliability_bins(confidence, correct)
    squares = (
        math.fsum((p - (place == right)) ** 2 for place, p in enumerate(row))
        for row, right in zip(probabilities, gold, strict=True)
    )
    # Below the smallest number there is, the loss would be infinite for want of digits.
    losses = (-math.log(max(row[right], 5e-324)) for row, right in zip(probabilities, gold, strict=True))
    ordered = sorted(zip(confidence, correct, strict=True), key=lambda one: -one[0])
    return Calibration(
        ece=math.fsum(one.n * abs(one.accuracy - one.confidence) for one in bins) / n,
        brier=math.fsum(squares) / n,
        log_loss=math.fsum(losses) / n,
        confidence=math.fsum(confidence) / n,
        aurc=_area(ordered),
        bins=tuple(bins),
        selective=tuple(_selected(ordered, coverage) for coverage in COVERAGES),
    )


def reliability_bins(confidence: Sequence[float], correct: Sequence[bool], bins: int = BINS) -> list[ReliabilityBin]:
    """Sort answers by confidence into bins of equal size.

    Args:
        confidence: Of each answer, 0 to 1.
        correct: Whether it is right.
        bins: Most bins; fewer where one would hold less than ``FEWEST_IN_BIN`` answers.
    """
    n = len(confidence)
    order = sorted(range(n), key=lambda i: confidence[i])
    count = max(1, min(bins, n // FEWEST_IN_BIN))
    # The first bins take one more where the answers cannot be shared evenly, as ``numpy.array_split`` does.
    sizes = [n // count + (place < n % count) for place in range(count)]
    out, start = [], 0
    for size in sizes:
        members = order[start : start + size]
        start += size
        right = sum(correct[i] for i in members)
        mean = math.fsum(confidence[i] for i in members) / size
        low, high = confidence[members[0]], confidence[members[-1]]
        out.append(ReliabilityBin(size, low, high, mean, right / size, wilson_interval(right, size)))
    return out


def _selected(ordered: Sequence[tuple[float, bool]], coverage: float) -> Selection:
    n = max(1, math.ceil(coverage * len(ordered) - 1e-9))
    return Selection(coverage, n, sum(right for _, right in ordered[:n]) / n, ordered[n - 1][0])


def _area(ordered: Sequence[tuple[float, bool]]) -> float:
    wrong, risks = 0, []
    for n, (_, right) in enumerate(ordered, 1):
        wrong += not right
        risks.append(wrong / n)
    return math.fsum(risks) / len(risks)
