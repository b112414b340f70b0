"""Goes along with a training: decides when to validate, save and stop, keeps the best weights, and tells all of it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from tuneboard.errors import UsageError
from tuneboard.tuning.checkpoints import WorkFolder
from tuneboard.tuning.records import CurvePoint, Trained
from tuneboard.tuning.watching import Clock, CurveFile, Judge, TrainingListener, memory_gib, thinned

#: Steps over which tokens per second are measured.
_PACE = 20
#: Training losses that ``Trained.loss`` is the mean of.
_LAST = 10


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What the recipe says about validating, saving and stopping, in steps."""

    name: str
    steps: int
    validate_every: int | None
    """None: there is nothing to validate on."""
    checkpoint_every: int
    patience: int | None
    restore_best: bool


class Watch(TrainerCallback):
    """One training's watch; its memory is the curve, so that a training that goes on knows all that was before.

    Args:
        settings: When to do what.
        place: Where best weights are kept.
        curve: Where points go.
        clock: Counts time over all sittings.
        listener: Whom to tell.
    """

    def __init__(
        self, settings: WatchSettings, place: WorkFolder, curve: CurveFile, clock: Clock, listener: TrainingListener
    ) -> None:
        self.settings, self.place, self.curve, self.clock, self.listener = settings, place, curve, clock, listener
        self.judge = Judge()
        self.points: list[CurvePoint] = []
        self.warnings: list[str] = []
        self.tokens = self.step = 0
        self.epoch = 0.0
        self.failed = False
        self._pace: deque[tuple[float, int]] = deque(maxlen=_PACE)
        self._began = 0.0
        self._tokens_before = 0
        self._untold: dict[str, float] = {}

    def warn(self, line: str) -> None:
        """Say and remember a warning, once."""
        if line not in self.warnings:
            self.warnings.append(line)
            self.listener.note(f"warning: {line}")

    def go_on_from(self, step: int | None) -> None:
        """Read the curve through a step and forget what came after; None starts anew."""
        points = self.curve.keep_through(-1 if step is None else step)
        self.place.forget_after(-1 if step is None else step)
        for point in points:
            self._take(point)
        if step is not None:
            self.listener.note(f"going on from step {step} of {self.settings.steps}")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of a step."""
        self._began, self._tokens_before = time.monotonic(), state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock, and decide what the step is followed by."""
        self._pace.append((time.monotonic() - self._began, state.num_input_tokens_seen - self._tokens_before))
        self.step, self.epoch, self.tokens = state.global_step, state.epoch, state.num_input_tokens_seen
        settings, last = self.settings, state.global_step >= self.settings.steps
        if settings.validate_every and (last or state.global_step % settings.validate_every == 0):
            control.should_evaluate = True
        control.should_save = state.global_step % settings.checkpoint_every == 0 and not last

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any) -> None:
        """Take the numbers of a step."""
        if "loss" not in logs:
            return
        seconds, tokens = (sum(column) for column in zip(*self._pace, strict=True))
        values = {
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm", math.nan),
            "tokens_per_s": tokens / max(seconds, 1e-9),
            "memory_gib": memory_gib(),
        }
        self._write(state, values)
        left = (self.settings.steps - state.global_step) * seconds / len(self._pace)
        self._untold = {**values, "seconds_left": left}
        if not math.isfinite(logs["loss"]):
            self.failed = True
            control.should_training_stop = True
            control.should_evaluate = control.should_save = False
        if not control.should_evaluate:
            self._tell(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **kwargs: Any) -> None:
        """Take a validation loss; keep the best weights, and stop when patience is at its end."""
        step = state.global_step
        self._write(state, {"validation_loss": metrics["eval_loss"]})
        self._tell(step)
        if self.settings.restore_best and self.judge.best and self.judge.best[0] == step:
            self.place.save_best(kwargs["model"], step)
        if self.settings.patience is not None and self.judge.stale >= self.settings.patience:
            self.listener.note(f"no better validation loss {self.judge.stale} times: stopping at step {step}")
            control.should_training_stop = True
            control.should_save = False  # a checkpoint here would be gone on from

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let go of what no checkpoint can ask for any more."""
        self.place.forget_but(self.judge.best[0] if self.judge.best else None)
        self.clock.write(at_once=True)

    def restore(self, model: Any, place: WorkFolder) -> None:
        """Put the best weights back, if the recipe wants them.

        Raises:
            UsageError: The loss was no number, and there is no earlier best.
        """
        best, first = self.judge.best, self._first_validation()
        if self.failed and not (best and self.settings.restore_best):
            raise UsageError(
                f"'{self.settings.name}' broke off at step {self.step}, where the loss is not a number; "
                "lower training.learning_rate, or set training.clip"
            )
        if best and first is not None and best[1] >= first:
            self.warn(
                f"validation loss never fell below the base's ({first:.4g}); lower learning_rate or check the data"
            )
        if best and self.settings.restore_best and (self.failed or best[0] != self.step):
            place.load_best(model, best[0])

    def trained(self, trained_parameters: int, total_parameters: int) -> Trained:
        """Return what the training came to."""
        self.clock.write(at_once=True)
        sums, best = self.clock.now(), self.judge.best
        restored = best if best and self.settings.restore_best else None
        last = self.judge.validations[-1] if self.judge.validations else None
        shown = restored or last
        losses = [point.value for point in self.points if point.name == "loss"]
        return Trained(
            steps=self.step,
            epochs=self.epoch,
            seconds=sums.seconds,
            cpu_seconds=sums.cpu_seconds,
            tokens=self.tokens,
            loss=sum(losses[-_LAST:]) / len(losses[-_LAST:]),
            validation_loss=shown[1] if shown else None,
            first_validation_loss=self._first_validation(),
            best_step=best[0] if best else None,
            trained_parameters=trained_parameters,
            total_parameters=total_parameters,
            peak_memory_gib=sums.peak_memory_gib,
            curve=thinned(self.points),
            warnings=tuple(self.warnings),
            resumed=sums.resumed,
        )

    def _first_validation(self) -> float | None:
        return next((value for step, value in self.judge.validations if step == 0), None)

    def _tell(self, step: int) -> None:
        """Tell the listener of a step, once its validation loss is known where it has one."""
        if self._untold:
            known = {"validation_loss": self.judge.validations[-1][1]} if self.judge.validations else {}
            told, self._untold = {**self._untold, **known}, {}
            self.listener.step(step, self.settings.steps, told)

    def _write(self, state: Any, values: Mapping[str, float]) -> None:
        epoch = float(state.epoch or 0.0)
        points = [CurvePoint(state.global_step, epoch, name, float(value)) for name, value in values.items()]
        self.curve.append(points)
        self.clock.write()
        for point in points:
            self._take(point)

    def _take(self, point: CurvePoint) -> None:
        self.points.append(point)
        if line := self.judge.read(point):
            self.warn(line)
