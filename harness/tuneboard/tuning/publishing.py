"""Writes what a training made as a candidate's folder, with its provenance: whole, or not there."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneboard.errors import UsageError
from tuneboard.tuning.cards import model_card
from tuneboard.tuning.checkpoints import WorkFolder
from tuneboard.tuning.folders import ADAPTER_CONFIG, LABELS, PROVENANCE, is_adapter
from tuneboard.tuning.methods import Method, resolved_options
from tuneboard.tuning.records import ModelKind, PreparedData, Recipe, Trained
from tuneboard.tuning.serving import serving_of
from tuneboard.tuning.unwritten import unwritten, write_fault

#: Version of ``provenance.json``; keys may be added to it, never changed.
SCHEMA = 1

_TENSORBOARD = "tensorboard"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained model and all that is known of how it came to be."""

    recipe: Recipe
    """With its base resolved and its kind told."""
    method: Method
    model: Any
    """As the training returned it."""
    tokenizer: Any
    data: PreparedData
    trained: Trained
    fingerprint: str
    """Identity of the training, as ``recipe_fingerprint`` tells it."""
    origin: Mapping[str, Any]
    """``command``, ``git_commit``, ``versions``, ``hardware``, ``training_run``, ``checked_against`` (benchmarks)."""

    @property
    def kind(self) -> ModelKind:
        """What the model is for."""
        assert self.recipe.kind != "auto", "resolved before training"
        return self.recipe.kind

    @property
    def pair(self) -> bool:
        """Whether a classifier was trained on pairs of texts."""
        return self.kind == "classification" and any(one.text_pair is not None for one in self.data.train)


def publish(outcome: Outcome, folder: Path, work: Path) -> Path:
    """Write a candidate beside its place and rename it into it.

    Args:
        outcome: What to write.
        folder: The candidate's; must not be there yet.
        work: The training's working folder, on the same file system; its TensorBoard logs move with the candidate.

    Raises:
        UsageError: The training diverged: there is nothing worth keeping.
        StoreError: The folder is there, or cannot be written.
    """
    shown = outcome.trained.validation_loss if outcome.trained.validation_loss is not None else outcome.trained.loss
    if not math.isfinite(shown):
        raise UsageError(
            f"'{outcome.recipe.name}' diverged: its loss is {shown}, so it is not published; "
            "lower training.learning_rate, or set training.clip"
        )
    partial = work / "candidate"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write(outcome, partial, work)
        put_in_place(partial, folder)
    except Exception as error:
        reason = write_fault(error)
        if reason is None:
            raise
        shutil.rmtree(partial, ignore_errors=True)
        again = WorkFolder(work).again(outcome.recipe.name)
        raise unwritten(f"the candidate to {folder}", folder, reason, again) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(outcome: Outcome, folder: Path, work: Path) -> None:
    outcome.method.save(outcome.model, folder)
    if is_adapter(folder):
        steady_config(folder, outcome.recipe.base.id)
        if outcome.data.labels:
            write_json(folder / LABELS, {"labels": list(outcome.data.labels), "pair": outcome.pair})
    else:
        outcome.tokenizer.save_pretrained(folder)
    logs = work / _TENSORBOARD
    if logs.is_dir():
        shutil.copytree(logs, folder / _TENSORBOARD)
    provenance = _provenance(outcome, folder)
    (folder / "README.md").write_text(model_card(provenance), encoding="utf-8")
    write_json(folder / PROVENANCE, provenance)


def steady_config(folder: Path, base: str) -> None:
    """Rewrite an adapter's config so that it is the same on every machine and in every process.

    peft writes sets in the order of the process's hash seed, and the folder that the base was loaded from; both would
    change the adapter's identity from one training to the next.

    Args:
        folder: The adapter's.
        base: Id of the base; of a local folder only its name is written.
    """
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save", "feedforward_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    local = Path(base).expanduser()
    config["base_model_name_or_path"] = local.resolve().name if local.is_dir() else base
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _provenance(outcome: Outcome, folder: Path) -> dict[str, Any]:
    recipe, trained = outcome.recipe, asdict(outcome.trained)
    curve = [[point["step"], point["epoch"], point["name"], point["value"]] for point in trained.pop("curve")]
    warnings = trained.pop("warnings")
    return {
        "made_by": "tuneboard",
        "schema": SCHEMA,
        "name": recipe.name,
        "fingerprint": outcome.fingerprint,
        **outcome.origin,
        "kind": outcome.kind,
        "method": {
            "name": recipe.method,
            "options": dict(recipe.options),
            "resolved": resolved_options(outcome.method, outcome.model, recipe.options),
            "merges": outcome.method.MERGES,
        },
        "base": {**asdict(recipe.base), "id": findable(recipe.base.id)},
        "seed": recipe.training.seed,
        "recipe": asdict(recipe),
        "data": asdict(outcome.data.report),
        "labels": list(outcome.data.labels),
        "pair": outcome.pair,
        "training": trained,
        "warnings": warnings,
        "serving": [asdict(one) for one in serving_of(folder, outcome.kind)],
        "curve": curve,
    }


def put_in_place(partial: Path, folder: Path) -> None:
    """Give a finished folder its name, once all of it is on the disk.

    Args:
        partial: On the same file system.
        folder: Not there yet.

    Raises:
        OSError: It is there, or cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    readable = (partial / PROVENANCE).stat().st_mode
    for path in partial.rglob("*"):
        if path.is_file():
            path.chmod(readable)  # safetensors makes files that nobody else may read
    _flush(partial)
    partial.rename(folder)
    _flush_folder(folder.parent)


def findable(base: str) -> str:
    """Return a base's id as it can be found from any working folder.

    Args:
        base: A hub id, which stays as it is, or a folder.
    """
    local = Path(base).expanduser()
    return str(local.resolve()) if local.is_dir() else base


def write_json(path: Path, content: Any) -> None:
    """Write JSON with null for numbers that it has no word for."""
    path.write_text(json.dumps(_finite(content), indent=1, default=str) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    """Put null where JSON has no word for a number."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flush(folder: Path) -> None:
    """Bring all files of a folder to the disk, so that its new name never shows a half-written one."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(place))


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
