from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
from tiny_models import MakeModel

from tuneboard.errors import StoreBusy, UsageError
from tuneboard.tuning.checkpoints import WorkFolder, opened
from tuneboard.tuning.records import CurvePoint
from tuneboard.tuning.training import train
from tuneboard.tuning.watching import CurveFile


class Stop(Exception):
    pass


class Stopper(tiny.Ear):
    """Ends a training after a step, as an error in it would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step(self, step: int, steps: int, values: Any) -> None:
        super().step(step, steps, values)
        if step == self.at:
            raise Stop


class Trainings:
    """Trainings in processes of their own, one after the other, in one working folder."""

    def __init__(self, root: Path, model: Path, folder: Path) -> None:
        self.model, self.folder, self.out = model, folder / "work", folder / "out.json"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "harness"), str(root / "tests")])}
        command = [
            sys.executable,
            str(root / "tests" / "tiny_training.py"),
            str(model),
            str(self.folder),
            str(self.out),
        ]
        self._server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def steps(self) -> int:
        """Steps that the curve knows."""
        return max((point.step for point in CurveFile(self.folder / "curve.jsonl").read()), default=0)

    def start(self) -> int:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write("\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def kill_after(self, steps: int) -> None:
        """Start a training and end it by SIGKILL as soon as the curve knows so many steps."""
        process, deadline = self.start(), time.monotonic() + 120
        while self.steps < steps and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        assert self._end() == -signal.SIGKILL and not self.out.exists()

    def finish(self) -> dict[str, Any]:
        """Start a training and wait for its end."""
        self.start()
        assert self._end() == 0
        return dict(json.loads(self.out.read_text()))

    def close(self) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(60)

    def _end(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())


@pytest.fixture
def trainings(root: Path, tiny_model: MakeModel, tmp_path: Path) -> Iterator[Trainings]:
    made = Trainings(root, tiny_model(), tmp_path)
    yield made
    made.close()


def undisturbed(model: Path, folder: Path) -> dict[str, Any]:
    return tiny.summary(*train(tiny.job(tiny.killable(model), "causal", folder), tiny.Ear()))


def test_a_training_killed_by_sigkill_goes_on_to_the_same_bits(trainings: Trainings, tmp_path: Path) -> None:
    trainings.kill_after(17)
    result = trainings.finish()
    assert result.pop("resumed") == 1
    assert result == undisturbed(trainings.model, tmp_path / "whole")


@pytest.mark.accept
def test_a_training_killed_five_times_at_random_goes_on_to_the_same_bits(trainings: Trainings, tmp_path: Path) -> None:
    moments = random.Random(0)
    trainings.kill_after(4)
    for _ in range(4):
        trainings.kill_after(trainings.steps + moments.randint(3, 8))
    result = trainings.finish()
    assert result.pop("resumed") >= 4
    assert result == undisturbed(trainings.model, tmp_path / "whole")


@pytest.mark.parametrize("at", [2, 24, 25])
def test_a_training_that_broke_off_anywhere_ends_as_if_it_had_not(
    at: int, tiny_model: MakeModel, tmp_path: Path
) -> None:
    """Before the first checkpoint, at the end of an epoch, and after it."""
    given = tiny.recipe(tiny_model(), epochs=4, batching="packed", checkpoint_every=1, max_length=24)
    with pytest.raises(Stop):
        train(tiny.job(given, "causal", tmp_path / "w"), Stopper(at))
    ear = tiny.Ear()
    resumed, outcome = train(tiny.job(given, "causal", tmp_path / "w"), ear)
    whole, expected = train(tiny.job(given, "causal", tmp_path / "whole"), tiny.Ear())
    assert expected.steps > 25
    assert tiny.digest(resumed) == tiny.digest(whole)
    assert outcome.validation_loss == expected.validation_loss
    assert outcome.resumed == 1 and f"going on from step {at - 1} of {outcome.steps}" in ear.notes


def test_a_working_folder_of_another_recipe_is_refused(tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(), epochs=1, checkpoint_every=1)
    with pytest.raises(Stop):
        train(tiny.job(given, "causal", tmp_path), Stopper(3))
    kept = sorted(str(path) for path in tmp_path.rglob("*"))
    other = tiny.recipe(tiny_model(), epochs=1, checkpoint_every=1, seed=1)
    with pytest.raises(UsageError, match=r"holds the unfinished training of another recipe.*--set name="):
        train(tiny.job(other, "causal", tmp_path), tiny.Ear())
    assert sorted(str(path) for path in tmp_path.rglob("*")) == kept


def test_a_folder_that_something_else_filled_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not overwrite")
    with pytest.raises(UsageError, match="remove the folder"), opened(tmp_path, "x", "mine"):
        pass


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    refused = pytest.raises(StoreBusy, match="another process trains 'mine'")
    with opened(tmp_path, "x", "mine"), refused, opened(tmp_path, "x", "mine"):
        pass


def test_only_a_checkpoint_that_was_written_to_its_end_is_used(tmp_path: Path) -> None:
    states = {3: '{"global_step": 3}', 6: '{"global_step": 6', 9: None, 12: '{"global_step": 3}'}
    for step, state in states.items():
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if state:
            (folder / "trainer_state.json").write_text(state)
    found = WorkFolder(tmp_path).last_checkpoint()
    assert found is not None and found.step == 3
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-3"]


def test_a_torn_line_of_the_curve_is_not_read(tmp_path: Path) -> None:
    curve = CurveFile(tmp_path / "curve.jsonl")
    points = [CurvePoint(step, 0.5, "loss", 1.0 / step) for step in (1, 2, 3)]
    curve.append(points)
    with curve.path.open("a") as file:
        file.write('{"step": 4, "epo')
    assert curve.read() == points
    assert curve.keep_through(2) == points[:2]
    curve.append(points[2:])
    assert curve.read() == points


def test_best_weights_that_a_checkpoint_may_ask_for_are_kept(tmp_path: Path) -> None:
    place = WorkFolder(tmp_path)
    for step in (5, 10, 15):
        (tmp_path / f"best-{step}.safetensors").write_bytes(b"")
    place.forget_after(10)
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-10.safetensors", "best-5.safetensors"]
    place.forget_but(10)
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-10.safetensors"]
