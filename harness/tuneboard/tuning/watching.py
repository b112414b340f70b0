"""A training's curve, written at once and safe from kills; its clock; the warnings that a person would give."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from tuneboard.tuning.checkpoints import write_json
from tuneboard.tuning.encoding import EncodingReport
from tuneboard.tuning.methods import Method
from tuneboard.tuning.records import CurvePoint

#: Points of one name that ``Trained.curve`` holds at most; validation points are never left out.
MOST_POINTS = 400
#: Training losses that are averaged before they are judged.
_SMOOTH = 10
_KIB_PER_GIB = 1 << 20
_UNIT = _KIB_PER_GIB if sys.platform != "darwin" else 1 << 30


class TrainingListener(Protocol):
    """Hears how a training goes on."""

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """After each optimizer step: ``loss``, ``learning_rate``, ``tokens_per_s``, ``seconds_left``, ``memory_gib``.

        ``validation_loss`` is there once one is known: this step's, or the last before it.
        """
        ...

    def note(self, line: str) -> None:
        """A line for people."""
        ...


class CurveFile:
    """Points as lines of JSON; a line that a kill tore is not read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[CurvePoint]:
        """Return all whole points, in order."""
        points = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                points.append(CurvePoint(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return points

    def append(self, points: Iterable[CurvePoint]) -> None:
        """Add points."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(point)) + "\n" for point in points))

    def keep_through(self, step: int) -> list[CurvePoint]:
        """Forget all points after a step, from which the training goes on; returns the others."""
        points = [point for point in self.read() if point.step <= step]
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text("".join(json.dumps(asdict(point)) + "\n" for point in points), encoding="utf-8")
        os.replace(part, self.path)
        return points


@dataclass(frozen=True, slots=True)
class Sittings:
    """Time and memory so far, over all sittings of a training."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_gib: float = 0.0
    resumed: int = 0


class Clock:
    """Counts time and memory of this sitting on top of the earlier ones, in a file that outlives a kill."""

    def __init__(self, path: Path, resumes: bool) -> None:
        self._path = path
        try:
            before = Sittings(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            before = Sittings()
        self._before = before
        self._resumed = before.resumed + resumes
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._written = 0.0

    def now(self) -> Sittings:
        """Return the sums up to now."""
        return Sittings(
            self._before.seconds + time.monotonic() - self._wall,
            self._before.cpu_seconds + time.process_time() - self._cpu,
            max(self._before.peak_memory_gib, peak_memory_gib()),
            self._resumed,
        )

    def write(self, at_once: bool = False) -> None:
        """Write the sums, once a second at most."""
        if at_once or time.monotonic() - self._written > 1:
            write_json(self._path, asdict(self.now()))
            self._written = time.monotonic()


def memory_gib() -> float:
    """Return the memory in use: a GPU's, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 2**30
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return peak_memory_gib()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def peak_memory_gib() -> float:
    """Return the most memory that was ever in use: a GPU's, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _UNIT


class Judge:
    """Reads a curve as a person would; says each thing once."""

    def __init__(self) -> None:
        self.validations: list[tuple[int, float]] = []
        self._since: list[float] = []
        self._between: list[float] = []
        self._recent: deque[float] = deque(maxlen=_SMOOTH)
        self._lowest = math.inf
        self._said: set[str] = set()

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and loss of the best validation after training began."""
        trained = [one for one in self.validations if one[0] > 0 and math.isfinite(one[1])]
        return min(trained, key=lambda one: (one[1], one[0]), default=None)

    @property
    def stale(self) -> int:
        """Validations since the best one."""
        best = self.best
        return sum(step > best[0] for step, _ in self.validations) if best else 0

    def read(self, point: CurvePoint) -> str | None:
        """Return what the point gives reason to say."""
        if point.name == "loss":
            return self._training(point)
        return self._validation(point) if point.name == "validation_loss" else None

    def _training(self, point: CurvePoint) -> str | None:
        if not math.isfinite(point.value):
            return self._once("nan", f"the loss is not a number at step {point.step}; lower the learning rate")
        self._since.append(point.value)
        self._recent.append(point.value)
        if len(self._recent) < _SMOOTH:
            return None
        smooth = sum(self._recent) / _SMOOTH
        self._lowest = min(self._lowest, smooth)
        if smooth > 1.5 * self._lowest + 0.5:
            text = (
                f"the loss diverges: {smooth:.2f} at step {point.step}, after {self._lowest:.2f}; lower learning_rate"
            )
            return self._once("diverges", text)
        return None

    def _validation(self, point: CurvePoint) -> str | None:
        self.validations.append((point.step, point.value))
        if self._since:
            self._between.append(sum(self._since) / len(self._since))
            self._since = []
        if not math.isfinite(point.value):
            return self._once(
                "nan", f"the validation loss is not a number at step {point.step}; lower the learning rate"
            )
        last = [value for _, value in self.validations[-3:]]
        falls = len(self._between) >= 2 and self._between[-1] < self._between[-2]
        if len(last) == 3 and last[0] < last[1] < last[2] and falls:
            text = (
                f"validation loss rises ({last[0]:.3f}, {last[1]:.3f}, {last[2]:.3f} at step {point.step}) while "
                "training loss falls: it learns its rows by heart; set patience, train shorter, or add data"
            )
            return self._once("by heart", text)
        return None

    def _once(self, what: str, text: str) -> str | None:
        if what in self._said:
            return None
        self._said.add(what)
        return text


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training is about to do, for the warnings before it."""

    method: Method
    learning_rate: float
    examples: int
    steps: int
    encoding: EncodingReport


def warnings_before(plan: Plan) -> list[str]:
    """Return what a person would say to the settings."""
    method, encoding = plan.method, plan.encoding
    low, high = method.USUAL_RATES
    out = []
    if not low <= plan.learning_rate <= high:
        out.append(
            f"learning_rate {plan.learning_rate:g} is outside of what {method.NAME} usually takes ({low:g} to {high:g})"
        )
    if plan.examples < method.FEWEST_EXAMPLES:
        out.append(f"{plan.examples} training examples; {method.NAME} usually needs {method.FEWEST_EXAMPLES} or more")
    if plan.steps < 10:
        out.append(
            f"{plan.steps} optimizer steps in all, which rarely teach anything; lower batch_size or max_length, "
            "raise epochs, or set batching: grouped"
        )
    if encoding.lost_tokens > encoding.tokens:
        out.append(f"most tokens ({encoding.lost_tokens} against {encoding.tokens}) are cut off; raise max_length")
    if encoding.dropped:
        out.append(
            f"{encoding.dropped} of {encoding.examples} training examples dropped: too long, or nothing to learn"
        )
    if encoding.merged > 0.1 * encoding.examples:
        out.append(
            f"in {encoding.merged} of {encoding.examples} examples the prompt's last token merges with the answer, so "
            "evaluation asks in other tokens; end prompts before the space or line break"
        )
    return out


def thinned(points: Iterable[CurvePoint]) -> tuple[CurvePoint, ...]:
    """Leave out evenly what is more than ``MOST_POINTS`` of one name; first and last points stay."""
    kept, by_name = list(points), dict[str, list[CurvePoint]]()
    for point in kept:
        by_name.setdefault(point.name, []).append(point)
    gone: set[int] = set()
    for name, own in by_name.items():
        if name == "validation_loss" or len(own) <= MOST_POINTS:
            continue
        wanted = {round(index * (len(own) - 1) / (MOST_POINTS - 1)) for index in range(MOST_POINTS)}
        gone |= {id(point) for index, point in enumerate(own) if index not in wanted}
    return tuple(point for point in kept if id(point) not in gone)


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers."""
    return {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
