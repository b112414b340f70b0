"""Keeps the demo's finished models: one folder per content, whole or not there."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from tuneboard import bundled
from tuneboard.demo.settings import TinySettings
from tuneboard.demo.training import Note
from tuneboard.errors import MissingExtra, StoreError
from tuneboard.records import fingerprint
from tuneboard.suites import find_suite

_SUITE = "demo"
#: Goes up when the code makes other models of the same lessons and settings.
_VERSION = 1
_BUILDING = ".building-"
_NEEDED = ("torch", "transformers", "peft", "lm_eval")


@dataclass(frozen=True, slots=True)
class DemoModels:
    """Folders that can be evaluated."""

    base: Path
    adapters: Mapping[str, Path]
    """By name."""

    @property
    def tag(self) -> str:
        """Six characters that name the base model's weights."""
        return hashlib.sha256((self.base / "model.safetensors").read_bytes()).hexdigest()[:6]


def demo_models(folder: Path, note: Note, settings: TinySettings | None = None) -> DemoModels:
    """Return the demo's models, which are made if ``folder`` does not have them yet.

    They are built in a hidden folder and renamed when finished, under a lock that ends with its process: a second
    process waits and takes what the first one made, and what a killed one left behind is removed by the next.

    Args:
        folder: Where models are kept; made if it is not there.
        note: Called with lines of progress.
        settings: None takes the shipped ones.

    Raises:
        MissingExtra: A package that is needed is not installed.
        StoreError: ``folder`` cannot be written.
    """
    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra(package, "transformers")
    from filelock import FileLock, Timeout

    settings = settings or TinySettings()
    finished = folder / _key(settings)
    if (finished / "base").is_dir():
        return _models(finished, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            note("waiting for another process that makes the demo's models")
            lock.acquire()
        with lock:
            lock.release()  # of the two holds, the one taken above
            if not finished.is_dir():
                _build(finished, settings, note)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"the demo's models cannot be kept in {folder} ({reason}); "
            "name a database beside which there is room: tuneboard demo --db FOLDER/tuneboard.duckdb"
        ) from error
    return _models(finished, settings)


def _key(settings: TinySettings) -> str:
    """Name what the models are made of: lessons, the way tasks put them, settings."""
    tasks = bundled.tasks_dir() / "demo"
    files = sorted(path for path in tasks.rglob("*") if path.suffix in (".yaml", ".jsonl"))
    lessons = {path.relative_to(tasks).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return fingerprint(_VERSION, asdict(settings), lessons)[:12]


def _models(finished: Path, settings: TinySettings) -> DemoModels:
    return DemoModels(finished / "base", {name: finished / name for name, _ in settings.adapters})


def _build(finished: Path, settings: TinySettings, note: Note) -> None:
    from tuneboard.demo.texts import lesson_texts
    from tuneboard.demo.training import make_adapter, make_base

    _hush()
    for left in finished.parent.glob(f"{_BUILDING}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=finished.parent, ignore_cleanup_errors=True) as place:
        building = Path(place) / "models"
        building.mkdir()
        lessons = lesson_texts(find_suite(_SUITE).tasks)
        make_base(building / "base", lessons, settings, note)
        for name, _ in settings.adapters:
            make_adapter(building / name, building / "base", lessons, settings, name, note)
        building.rename(finished)


def _hush() -> None:
    """Keep libraries from writing between the lines of progress."""
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
