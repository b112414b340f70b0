"""Makes what the demo shows, and keeps it: each part is whole or not there, and what is there is not made again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard import bundled
from tuneboard.candidates import resolve_model
from tuneboard.demo.recipes import write_real_recipes, write_tiny_recipes
from tuneboard.demo.settings import TinySettings
from tuneboard.errors import MissingExtra, StoreError
from tuneboard.records import Candidate, ModelRef, fingerprint
from tuneboard.store import queries
from tuneboard.store.database import reading
from tuneboard.store.writes import Store
from tuneboard.tuning.unwritten import write_fault

if TYPE_CHECKING:
    from tuneboard.tuning.tune import TuneListener

#: The world whose held-out items ship with the demo tasks.
SHIPPED_SEED = 1234
#: Goes up when the code makes another base of the same world and settings.
_VERSION = 2
_NEEDED = ("torch", "transformers", "peft", "accelerate", "lm_eval")
_TASKS = "demo"


@dataclass(frozen=True, slots=True)
class Course:
    """A base and its candidates, made and ready to be evaluated."""

    base: str
    """Folder or hub id."""
    base_name: str
    candidates: Mapping[str, Path]
    """Name to folder, in the order of the recipes."""
    says: Mapping[str, str]
    """Name to how it was made."""
    suite: str
    policy: str
    folder: Path
    """Where all of it lies."""
    include_paths: tuple[Path, ...] = ()
    mirror: Path | None = None


@contextmanager
def turn(db: Path, listener: TuneListener) -> Iterator[Path]:
    """Let one process at a time make demos beside a database; the next one waits and finds what was made.

    The lock ends with its process, however that ends.

    Args:
        db: The database; demos lie beside it, in ``demo``, which is what is yielded.
        listener: Told if there is something to wait for.

    Raises:
        StoreError: The folder cannot be written, or the file is no database of ours.
    """
    from filelock import FileLock, Timeout

    if db.exists():
        with reading(db):  # training takes minutes, and what is wrong with the file is known now
            pass
    folder = db.parent / "demo"
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            listener.note("waiting for another process that makes a demo here")
            lock.acquire()
    try:
        yield folder
    finally:
        lock.release()


def tiny_course(
    folder: Path, db: Path, seed: int, listener: TuneListener, settings: TinySettings | None = None
) -> Course:
    """Make the tiny base of a seed's world and its candidates, as far as they are not there.

    Args:
        folder: Where demos lie, from ``turn``.
        db: The database, where candidates are entered.
        seed: Of the world and of the training.
        listener: Told how it goes.
        settings: None takes the shipped ones.

    Raises:
        MissingExtra: A package that is needed is not installed.
        StoreError: ``folder`` or the database cannot be written.
    """
    _check_installed()
    settings = settings or TinySettings()
    place = folder / f"{seed}-{fingerprint(_VERSION, asdict(settings), seed)[:8]}"
    with _writable(folder):
        _make_world(place, seed, settings)
        _make_base(place, seed, settings, listener)
    base = str(place / "base")
    names = _Names("tiny", base, db)
    recipes = write_tiny_recipes(place, names.prefix, names.suffix, settings)
    include = () if seed == SHIPPED_SEED else (place / "world" / "tasks",)
    return _tuned(Course(base, names.base, recipes, _described(recipes), _TASKS, _TASKS, place, include), db, listener)


def real_course(folder: Path, db: Path, model: str, mirror: Path | None, listener: TuneListener) -> Course:
    """Make candidates of a real base on small real data, as far as they are not there.

    Args:
        folder: Where demos lie, from ``turn``.
        db: The database, where candidates are entered.
        model: Folder or hub id of a causal language model.
        mirror: Folder that data sets are read from; None reads from the hub.
        listener: Told how it goes.

    Raises:
        MissingExtra: A package that is needed is not installed.
        ModelError: There is no such model.
        StoreError: ``folder`` or the database cannot be written.
    """
    _check_installed()
    prefix = re.sub(r"[^\w.+-]+", "-", Path(model).name).strip(".-") or "model"
    names = _Names(prefix, model, db)
    place = folder / f"{prefix}-{names.tag}"
    with _writable(folder):
        recipes = write_real_recipes(place, model, names.prefix, names.suffix)
    suite = f"{_TASKS}-model"
    course = Course(model, names.base, recipes, _described(recipes), suite, suite, place, mirror=mirror)
    return _tuned(course, db, listener)


class _Names:
    """Names that a database has free for a base and its candidates, or has given to them before."""

    def __init__(self, prefix: str, model: str, db: Path) -> None:
        ref = resolve_model(ModelRef(model))
        self.prefix, self.tag = prefix, ref.sha256[:6]
        bound = {row.name: row.fingerprint for row in queries.models(db)} if db.exists() else {}
        own = Candidate("", ref).fingerprint
        taken = any(name.startswith(f"{prefix}-") for name in bound)
        self.suffix = f"-{self.tag}" if taken and bound.get(f"{prefix}-base") != own else ""
        # Entered at once: a demo that is killed before it evaluates finds its names again.
        Store(db).register(Candidate(self.base, ref))

    @property
    def base(self) -> str:
        return f"{self.prefix}-base{self.suffix}"


def _tuned(course: Course, db: Path, listener: TuneListener) -> Course:
    """Carry out the recipes that a course has in place of candidates."""
    from dataclasses import replace

    from tuneboard.tuning.tune import TuneRequest, tune

    folders: dict[str, Path] = {}
    for number, (name, recipe) in enumerate(course.candidates.items(), 2):
        request = TuneRequest(
            path=recipe,
            db=db,
            out=course.folder / "candidates",
            mirror=course.mirror,
            benchmarks=(course.suite,),
            include_paths=course.include_paths,
            command="tuneboard demo",
        )
        (made,) = tune(request, _Numbered(listener, number, len(course.candidates) + 1))
        assert made.folder is not None
        folders[name] = made.folder
    return replace(course, candidates=folders)


class _Numbered:
    """Tells a listener of single recipes as parts of a whole.

    Args:
        listener: Who is told.
        number: Of this recipe.
        count: Of all trainings, the base's included.
    """

    def __init__(self, listener: TuneListener, number: int, count: int) -> None:
        self._listener, self._place = listener, (number, count)
        self.step, self.note = listener.step, listener.note

    def begin(self, name: str, number: int, count: int) -> None:
        """Announce the recipe with its number among all."""
        self._listener.begin(name, *self._place)


def _check_installed() -> None:
    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra(package, "transformers")


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = write_fault(error)
        if reason is None:
            raise
        raise StoreError(
            f"the demo's models cannot be kept in {folder} ({reason}); "
            "name a database beside which there is room: tuneboard demo --db FOLDER/tuneboard.duckdb"
        ) from error


def _make_world(place: Path, seed: int, settings: TinySettings) -> None:
    """Write what candidates are taught, and the demo tasks with this world's items."""
    from tuneboard.demo.world import make_world, replay_texts, write_items, write_rows

    finished, building = place / "world", place / ".world"
    if finished.is_dir():
        return
    shutil.rmtree(building, ignore_errors=True)
    tasks = building / "tasks"
    world = make_world(seed)
    write_items(world, tasks / "data")
    shipped = bundled.tasks_dir()
    for path in sorted((shipped / _TASKS).iterdir()):
        if path.suffix == ".py":
            shutil.copyfile(path, tasks / path.name)
        if path.suffix == ".yaml":
            # An include is read from the folder of the file that has it.
            text = path.read_text(encoding="utf-8").replace("include: ../", f"include: {shipped.as_posix()}/")
            (tasks / path.name).write_text(text, encoding="utf-8")
    write_rows(building / "skill.jsonl", world.part("subtraction").skill)
    write_rows(building / "old.jsonl", ({"text": text} for text in replay_texts(world, settings.replay)))
    building.rename(finished)


def _make_base(place: Path, seed: int, settings: TinySettings, listener: TuneListener) -> None:
    finished, building = place / "base", place / ".base"
    listener.begin("tiny-base", 1, len(settings.candidates) + 1)
    if finished.is_dir():
        return
    from transformers.utils import logging as hf_logging

    from tuneboard.demo.base import make_base
    from tuneboard.demo.world import make_world

    hf_logging.disable_progress_bar()
    building.mkdir(exist_ok=True)
    make_base(building, make_world(seed), settings, listener)
    building.rename(finished)


def _described(recipes: Mapping[str, Path]) -> dict[str, str]:
    from tuneboard.config import load_yaml

    return {name: str(load_yaml(path)["description"]).partition(";")[0] for name, path in recipes.items()}
