"""The working folder of a training: what it is of, its checkpoints, its best weights.

    identity.json              which recipe, data and base these files belong to
    checkpoints/checkpoint-N/  trained weights, optimizer, schedule, random states; trainer_state.json is written last
    best-N.safetensors         trained weights of the lowest validation loss
    curve.jsonl                one line per point, see ``watching``
    sittings.json              time and memory of all sittings

A checkpoint is used only if its trainer_state.json can be read whole, so a kill at any moment costs the steps since the
one before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.errors import StoreBusy, StoreError, UsageError
from tuneboard.tuning.unwritten import unwritten, write_fault

_STATE = "trainer_state.json"
_WEIGHTS = "trained.safetensors"
_NUMBERED = re.compile(r"^checkpoint-(\d+)$")
_BEST = re.compile(r"^best-(\d+)\.safetensors$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint."""

    folder: Path
    step: int


class WorkFolder:
    """Paths of one training's files, and what to do with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.curve = folder / "curve.jsonl"
        self.sittings = folder / "sittings.json"
        self.tensorboard = folder / "tensorboard"

    def last_checkpoint(self) -> Checkpoint | None:
        """Return the whole checkpoint with the most steps; what is not whole is removed."""
        found: list[Checkpoint] = []
        for place in self.checkpoints.glob("checkpoint-*"):
            match = _NUMBERED.match(place.name)
            if match and _is_whole(place, int(match[1])):
                found.append(Checkpoint(place, int(match[1])))
            else:
                shutil.rmtree(place, ignore_errors=True)
        return max(found, key=lambda one: one.step, default=None)

    def again(self, name: str) -> str:
        """Say what running the same command again does for a candidate of this name."""
        last = self.last_checkpoint()
        goes_on = f"goes on from step {last.step}" if last else "begins anew, since there is no checkpoint yet"
        return f"run the same command again: '{name}' {goes_on}"

    def save_best(self, model: Any, step: int) -> None:
        """Keep the weights of a step; those of earlier best steps stay until ``forget_but``."""
        save_trained(model, self._best(step))

    def load_best(self, model: Any, step: int) -> None:
        """Put kept weights back."""
        load_trained(model, self._best(step))

    def forget_but(self, step: int | None) -> None:
        """Remove all best weights but those of one step: once a checkpoint is whole, no other can be asked for."""
        self._remove_best(lambda found: found != step)

    def forget_after(self, step: int) -> None:
        """Remove best weights of steps that will be trained again."""
        self._remove_best(lambda found: found > step)

    def _remove_best(self, gone: Any) -> None:
        for path in self.folder.glob("best-*.safetensors"):
            match = _BEST.match(path.name)
            if match and gone(int(match[1])):
                path.unlink(missing_ok=True)

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step}.safetensors"


@contextmanager
def opened(folder: Path, identity: str, name: str) -> Iterator[WorkFolder]:
    """Hold a working folder for a training.

    Args:
        folder: Made if it is not there.
        identity: Fingerprint of recipe, data and base.
        name: The candidate's, for messages.

    Raises:
        UsageError: The folder belongs to another recipe.
        StoreBusy: Another process trains in it.
        StoreError: It cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise StoreBusy(f"another process trains '{name}' in {folder}; wait for it, or set another name") from None
        try:
            _check_identity(folder, identity, name)
            yield WorkFolder(folder)
        finally:
            lock.release()
    except Exception as error:
        reason = write_fault(error)
        if reason is None:
            raise
        raise unwritten(f"the working folder {folder}", folder, reason, WorkFolder(folder).again(name)) from error


def _check_identity(folder: Path, identity: str, name: str) -> None:
    path = folder / "identity.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except FileNotFoundError:
        found = None
    except (ValueError, KeyError, TypeError):
        found = "damaged"
    if found is None and not any(place.suffix != ".lock" and place.name != ".lock" for place in folder.iterdir()):
        write_json(path, {"recipe": identity, "name": name})
    elif found != identity:
        raise UsageError(
            f"{folder} holds the unfinished training of another recipe, data or base under the name '{name}'; "
            "remove the folder to start anew, or train under another name: --set name=..."
        )


def save_trained(model: Any, path: Path) -> None:
    """Write what is trained, under the names of its parameters, in one go."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    weights = {name: weight.detach().cpu().contiguous() for name, weight in trained_weights(model).items()}
    try:
        save_file(weights, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # on a full disk half of it would only take space


def load_trained(model: Any, path: Path) -> None:
    """Put trained weights back.

    Raises:
        StoreError: They cannot be read, or are not those of this model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights, saved = trained_weights(model), load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove {path.parent} and run the command again") from error
    if weights.keys() != saved.keys():
        odd = sorted(weights.keys() ^ saved.keys())[0]
        raise StoreError(f"{path} holds other weights than this model trains ('{odd}'); remove {path.parent}")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[name])


def trained_weights(model: Any) -> dict[str, Any]:
    """Return the parameters that are trained, by name, tied ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def weights_file(checkpoint: Path) -> Path:
    """Return where a checkpoint keeps the trained weights."""
    return checkpoint / _WEIGHTS


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a small JSON file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value), encoding="utf-8")
    os.replace(part, path)


def _is_whole(checkpoint: Path, step: int) -> bool:
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        return bool(state["global_step"] == step)
    except (OSError, ValueError, KeyError, TypeError):
        return False
