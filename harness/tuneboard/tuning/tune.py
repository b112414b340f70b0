"""From a recipe to candidates: resolves, prepares, trains, publishes and records, one trial after the other."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tuneboard.candidates import resolve_model
from tuneboard.errors import DataError, MissingExtra, ModelError, NameTaken, StoreError, TuneboardError, UsageError
from tuneboard.machine import git_commit, hardware, versions
from tuneboard.store.training import Point, TrainingFigures, TrainingStart, TrainingStore
from tuneboard.store.trainings import bound_elsewhere, find_trainings
from tuneboard.store.writes import Store
from tuneboard.tuning.checkpoints import WorkFolder
from tuneboard.tuning.data import DataContext, prepare, sniff
from tuneboard.tuning.folders import candidate_in, read_provenance
from tuneboard.tuning.methods import Method, find_method, method_names
from tuneboard.tuning.publishing import Outcome, publish
from tuneboard.tuning.recipe import load_recipe, recipe_fingerprint
from tuneboard.tuning.records import ModelKind, PreparedData, Recipe
from tuneboard.tuning.workplace import clear_own, clear_unless_checkpointed, held

if TYPE_CHECKING:
    from tuneboard.records import ModelRef

_NEEDED = ("torch", "transformers", "peft", "accelerate")
_FIGURES = tuple(TrainingFigures.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """One recipe to carry out."""

    path: Path
    """The YAML file."""
    db: Path
    settings: tuple[tuple[str, str], ...] = ()
    """``(key, YAML value)`` pairs that win over the file."""
    data_folder: Path | None = None
    """Where relative data paths start; None takes the recipe's folder."""
    out: Path = Path("adapters/trained")
    """Where candidates land, one folder each."""
    mirror: Path | None = None
    benchmarks: tuple[str, ...] = ()
    """Suites or tasks that the candidates will be evaluated on: the training data must not hold them."""
    include_paths: tuple[Path, ...] = ()
    """Folders with tasks of the user's own."""
    command: str = ""
    """Command line, for the record."""


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one trial."""

    name: str
    status: Literal["trained", "reused", "failed"]
    recipe: Recipe
    folder: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Content of its ``provenance.json``; empty where it failed."""
    reason: str | None = None
    """Why it failed."""


class TuneListener(Protocol):
    """Hears how the work goes on; ``report.training.TrainingProgress`` is one."""

    def begin(self, name: str, number: int, count: int) -> None:
        """Trial ``number`` of ``count`` begins."""
        ...

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """After each optimizer step."""
        ...

    def note(self, line: str) -> None:
        """A line for people."""
        ...


def tune(request: TuneRequest, listener: TuneListener) -> tuple[Made, ...]:
    """Make the candidates of a recipe; finished ones are reused, interrupted ones go on from their checkpoints.

    Args:
        request: Which recipe, and where everything is.
        listener: Told how it goes.

    Returns:
        One per trial, in order; in a sweep a trial that fails does not keep the others from being made.

    Raises:
        TuneboardError: The recipe is wrong, or its only trial fails.
        KeyboardInterrupt: Says from which step the same request goes on.
    """
    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra(package, "transformers")
    recipes = load_recipe(request.path, request.settings)
    if request.data_folder is not None:
        recipes = tuple(replace(recipe, folder=str(request.data_folder.resolve())) for recipe in recipes)
    made = []
    for number, recipe in enumerate(recipes, 1):
        listener.begin(recipe.name, number, len(recipes))
        try:
            made.append(_Trial(request, recipe, listener).run())
        except TuneboardError as error:
            if len(recipes) == 1:
                raise
            listener.note(f"{recipe.name} failed: {error}")
            made.append(Made(recipe.name, "failed", recipe, reason=str(error)))
        gc.collect()  # the model of this trial, before that of the next is loaded
    return tuple(made)


class _Trial:
    def __init__(self, request: TuneRequest, recipe: Recipe, listener: TuneListener) -> None:
        self.request, self.listener = request, listener
        self.name = recipe.name
        self.folder = request.out / recipe.name
        self.work = request.out / ".work" / recipe.name
        self.store = TrainingStore(request.db)
        self.recipe, self.kind = _resolved(recipe, request.mirror)
        self.method = _fitting_method(self.recipe, self.kind)

    def run(self) -> Made:
        """Make the candidate, or find it made."""
        from tuneboard.tuning.memory import check_memory

        with held(self.work, self.name):
            there = read_provenance(self.folder)
            if there is None:
                self._refuse_foreign()
                check_memory(self.recipe, self.method, self.kind)
            data = self._prepare()
            fingerprint = recipe_fingerprint(self.recipe, data.report.sha256, self.recipe.base.sha256)
            if there is not None:
                return self._reuse(there, fingerprint)
            self._refuse_bound(fingerprint)
            return self._make(data, fingerprint)

    def _prepare(self) -> PreparedData:
        recipe, request = self.recipe, self.request
        context = DataContext(
            kind=self.kind,
            folder=Path(recipe.folder),
            mirror=request.mirror,
            seed=recipe.training.seed,
            benchmarks=request.benchmarks,
            include_paths=request.include_paths,
        )
        data = prepare(recipe.data, context)
        report = data.report
        leaks = len({(leak.task, leak.doc_id) for leak in report.leaks})
        found = f", {leaks:,} benchmark items found in them" if leaks else ""
        self.listener.note(f"{report.train:,} training and {report.validation:,} validation examples{found}")
        return data

    def _reuse(self, there: Mapping[str, Any], fingerprint: str) -> Made:
        if there.get("fingerprint") != fingerprint:
            raise UsageError(
                f"{self.folder} holds '{self.name}' made by another recipe, of other data or of another base; "
                f"give this one a name of its own: --set name={self.name}-2"
            )
        known = find_trainings(self.request.db, fingerprint=fingerprint) if self.request.db.exists() else []
        self._refuse_damaged([row.candidate_fingerprint for row in known if row.status == "done"])
        self.listener.note(f"{self.name} is made already, by the same recipe from the same data: reused")
        if not any(row.status == "done" for row in known):
            self._record(self.store.start(self._start(there["data"], fingerprint)), there)
        return Made(self.name, "reused", self.recipe, self.folder, there)

    def _refuse_damaged(self, made: Sequence[str | None]) -> None:
        """Refuse a folder whose weights are gone, or are not those that the training left there."""
        try:
            there = candidate_in(self.folder, self.name, self.recipe.base).fingerprint
        except ModelError as error:
            raise UsageError(f"{error}; remove {self.folder} to train '{self.name}' again") from error
        if any(made) and there not in made:
            raise UsageError(
                f"{self.folder} holds other weights than '{self.name}' was made with; remove it to train again"
            )

    def _make(self, data: PreparedData, fingerprint: str) -> Made:
        origin = {
            "command": self.request.command,
            "git_commit": git_commit(Path.cwd()),
            "versions": versions(),
            "hardware": hardware(),
            "checked_against": list(self.recipe.data.leaks.against or self.request.benchmarks),
        }
        clear_unless_checkpointed(self.work)
        run_id = self.store.start(self._start(asdict(data.report), fingerprint))
        try:
            publish(self._train(data, fingerprint, {**origin, "training_run": run_id}), self.folder, self.work)
        except BaseException as error:
            self._record_end(run_id, error)
            if isinstance(error, UsageError | DataError):
                # Another try needs another recipe, which the folder would refuse.
                clear_own(self.work, fingerprint)
            clear_unless_checkpointed(self.work)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(WorkFolder(self.work).again(self.name)) from error
            raise
        shutil.rmtree(self.work, ignore_errors=True)
        provenance = read_provenance(self.folder) or {}
        self._record(run_id, provenance)
        return Made(self.name, "trained", self.recipe, self.folder, provenance)

    def _record_end(self, run_id: str, error: BaseException) -> None:
        """Enter how a training ended that made no candidate."""
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else str(error) or type(error).__name__
        # A disk that had no room for the candidate may have none for this either; the first error is the one to say.
        with suppress(StoreError):
            self.store.fail(run_id, "interrupted" if interrupted else "failed", reason, self._curve_so_far())

    def _train(self, data: PreparedData, fingerprint: str, origin: Mapping[str, Any]) -> Outcome:
        from tuneboard.tuning.bases import load_base, quantization_of
        from tuneboard.tuning.training import TrainingJob, train

        self.listener.note(f"loading {self.recipe.base.id}")
        base = load_base(self.recipe.base, self.kind, data.labels, quantization_of(self.recipe, self.method))
        model, trained = train(TrainingJob(self.recipe, self.method, base, data, self.work), self.listener)
        return Outcome(self.recipe, self.method, model, base.tokenizer, data, trained, fingerprint, origin)

    def _start(self, report: Mapping[str, Any], fingerprint: str) -> TrainingStart:
        recipe = self.recipe
        return TrainingStart(
            name=self.name,
            fingerprint=fingerprint,
            method=recipe.method,
            kind=self.kind,
            base=recipe.base,
            seed=recipe.training.seed,
            recipe=asdict(recipe),
            data=report,
            versions=versions(),
            hardware=hardware(),
            command=self.request.command,
            git_commit=git_commit(Path.cwd()),
        )

    def _record(self, run_id: str, provenance: Mapping[str, Any]) -> None:
        """Enter a published candidate and its training into the database."""
        candidate = candidate_in(self.folder, self.name, self.recipe.base)
        facts = {**provenance["training"], "warnings": tuple(provenance["warnings"])}
        figures = TrainingFigures(**{name: facts[name] for name in _FIGURES})
        points = [tuple(point) for point in provenance["curve"]]
        self.store.finish(run_id, candidate.fingerprint, self.folder, figures, points)
        try:
            Store(self.request.db).register(candidate)
        except NameTaken as error:
            self.listener.note(str(error))

    def _curve_so_far(self) -> list[Point]:
        from tuneboard.tuning.watching import CurveFile, thinned

        points = thinned(CurveFile(self.work / "curve.jsonl").read())
        return [(point.step, point.epoch, point.name, point.value) for point in points]

    def _refuse_foreign(self) -> None:
        if self.folder.exists():
            raise UsageError(
                f"{self.folder} is there and was not made by tuneboard tune; move it away, "
                f"or give the candidate another name: --set name={self.name}-2"
            )

    def _refuse_bound(self, fingerprint: str) -> None:
        if bound_elsewhere(self.request.db, self.name, fingerprint):
            raise UsageError(
                f"the name '{self.name}' is bound to other weights in {self.request.db}; give this candidate another: "
                f"--set name={self.name}-2, or free it: tuneboard rename {self.name} NEW-NAME --db {self.request.db}"
            )


def _resolved(recipe: Recipe, mirror: Path | None) -> tuple[Recipe, ModelKind]:
    """Find the base, and tell by it and the data what kind of model the recipe trains."""
    from tuneboard.tuning.bases import kind_of

    base: ModelRef = resolve_model(recipe.base)
    recipe = replace(recipe, base=base)
    kind = kind_of(recipe, sniff(recipe.data, Path(recipe.folder), mirror))
    return replace(recipe, kind=kind), kind


def _fitting_method(recipe: Recipe, kind: ModelKind) -> Method:
    method = find_method(recipe.method)
    if kind not in method.KINDS:
        fitting = [name for name in method_names() if kind in find_method(name).KINDS]
        raise UsageError(
            f"the method '{recipe.method}' does not fit {kind} models (only {', '.join(sorted(method.KINDS))}); "
            f"methods that do: {', '.join(fitting)}"
        )
    return method
