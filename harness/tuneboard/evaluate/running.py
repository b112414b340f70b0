"""Run: answers every request that no earlier run has answered, and stores each cell as soon as it is complete."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneboard.engines.protocol import BASE, Engine, EngineInfo, LoadsLate, load_seconds
from tuneboard.errors import StoreError, TuneboardError, near_matches
from tuneboard.evaluate.canary import unapplied
from tuneboard.evaluate.cells import Cell, CellWriter, OpenWork
from tuneboard.evaluate.context import room_notes
from tuneboard.evaluate.fidelity import Checking
from tuneboard.evaluate.grouping import group_results
from tuneboard.evaluate.labels import label_note
from tuneboard.evaluate.placing import EngineGroup, engine_groups, without_headless
from tuneboard.evaluate.provenance import provenance
from tuneboard.evaluate.recording import RecordedTask, record
from tuneboard.evaluate.request import EvaluateRequest, Evaluation, Hooks
from tuneboard.records import Candidate, CellKey, TaskResult
from tuneboard.store.writes import Store
from tuneboard.suites import LoadedTasks, TaskRequest, load_tasks, with_headlines


def evaluate(request: EvaluateRequest, hooks: Hooks) -> Evaluation:
    """Evaluate candidates on a suite; finished cells are reused, interrupted ones go on from their journals.

    Raises:
        TuneboardError: The request cannot be begun (unknown task, missing data, model or adapter that does not load,
            name bound to other weights). What fails later fails its cell only.
        KeyboardInterrupt: Passed on; what was computed is kept.
    """
    return Evaluating(request, hooks).run()


class Evaluating:
    """One evaluation under way.

    Args:
        request: What is asked for.
        hooks: What it needs from outside.
    """

    def __init__(self, request: EvaluateRequest, hooks: Hooks) -> None:
        candidates, self.left_out = without_headless(request.candidates)
        suite = replace(request.suite, tasks=with_headlines(request.suite.tasks, request.include_paths))
        self.request, self.hooks = replace(request, candidates=candidates, suite=suite), hooks
        self.started = time.perf_counter()
        self.store = Store(request.db)
        self.infos: list[EngineInfo] = []
        self.checks: list[dict[str, Any]] = []
        self._run_id: str | None = None
        self._recorded: dict[str, dict[str, RecordedTask]] = {}
        self.results: dict[tuple[str, str], TaskResult] = {}
        self.timing = {"load_s": 0.0, "engine_s": 0.0}
        self.loaded: LoadedTasks

    def run(self) -> Evaluation:
        """Do it; raises as ``evaluate`` does."""
        for candidate in self.request.candidates:
            self.store.check(candidate)
        _refuse_unwritable(self.request.db)
        self.loaded = load_tasks(self.task_request())
        for line in (*self.left_out.values(), *(self.loaded.notes if self.request.repeat == 0 else ())):
            self.hooks.listener.note(line)
        status = "failed"
        try:
            self._evaluate_groups(list(engine_groups(self.request.candidates)))
            status = "done" if all(r.status in ("done", "reused") for r in self.results.values()) else "incomplete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            if self._run_id is not None or status in ("done", "incomplete"):
                self.store.finish_run(self.run_id, status, self.seconds, self._engine_facts())
        results, headlines = self._in_order(), _headlines(self.loaded)
        for line in _unmeasured(headlines, results):
            self.hooks.listener.note(line)
        return Evaluation(self.run_id, self.seconds, self._engine_facts(), results, headlines, self.timing)

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self.started

    @property
    def run_id(self) -> str:
        """The run's id; the run enters the database when its first cell does."""
        if self._run_id is None:
            self._run_id = self.store.start_run(provenance(self.request, self._engine_facts()))
        return self._run_id

    def _engine_facts(self) -> Mapping[str, Any]:
        dtype = self.request.candidates[0].model.dtype
        if not self.infos:
            return {"name": self.request.engine, "version": "", "device": "", "dtype": dtype}
        first = self.infos[0]
        # Different kinds of models have engines of their own, all on the same device.
        names = " + ".join(dict.fromkeys(info.name for info in self.infos))
        facts = {"name": names, "version": first.version, "device": first.device, "dtype": first.dtype}
        elsewhere = {name: where for info in self.infos for name, where in info.details.get("elsewhere", {}).items()}
        return facts | {key: value for key, value in (("checks", self.checks), ("elsewhere", elsewhere)) if value}

    def task_request(self) -> TaskRequest:
        """Return what to load, with the limit that is asked for."""
        request, tasks = self.request, self.request.suite.tasks
        if request.limit is not None:
            tasks = tuple(replace(task, limit=request.limit) for task in tasks)
        return TaskRequest(
            tasks=tasks,
            include_paths=request.include_paths,
            task_files=request.task_files,
            mirror=request.mirror,
            num_fewshot=request.num_fewshot,
            seed=request.seed,
            gen_kwargs=request.gen_kwargs,
        )

    def recordings(self, candidate: Candidate) -> dict[str, RecordedTask]:
        """Return the requests of all tasks; they depend on the model only through its chat template."""
        chat: Any | None = None
        if self.request.prompts.apply_chat_template:
            from tuneboard.engines.chat import chat_of

            chat = chat_of(candidate.model)
        which = candidate.model.sha256 if chat is not None else ""
        if which not in self._recorded:
            recorded = {name: record(name, self.loaded, self.request, chat) for name in self.loaded.tasks}
            for line in filter(None, map(label_note, recorded.values() if not self._recorded else ())):
                self.hooks.listener.note(line)
            self._recorded[which] = recorded
        return self._recorded[which]

    def _evaluate_groups(self, groups: Sequence[EngineGroup]) -> None:
        for group in groups:
            self._evaluate_group(group)

    def _writer(self) -> CellWriter:
        return CellWriter(self.store, lambda: self.run_id, self.hooks.listener, self.request.seed, self.results)

    def _evaluate_group(self, group: EngineGroup) -> None:
        work, writer = OpenWork(self.store, self.hooks.listener), self._writer()
        cells = [
            Cell(candidate, recorded, self._key(candidate, recorded))
            for candidate in group.candidates
            for recorded in self.recordings(candidate).values()
        ]
        found = {k: old for k, old in self.store.find_all([cell.key for cell in cells]).items() if old.failed == 0}
        settled = [self._open(cell, work, writer) for cell in cells if cell.key not in found]
        engine, fault = self._engine(group) if work.cells or self.request.check_engine else (None, None)
        # Nothing is stored before the model is there: one that does not load leaves no trace.
        writer.reuse([(cell, found[cell.key]) for cell in cells if cell.key in found])
        for store in settled:
            store()
        if fault is not None:
            for cell in list(work.cells):
                writer.fail(cell, "failed", str(fault))
        if engine is not None:
            try:
                self._answer(engine, group, work, writer)
                checking = self._asked_twice(engine, group)
            finally:
                self.timing["load_s"] += load_seconds(engine)
                self.timing["engine_s"] += work.engine_seconds
                work.close()
                engine.close()
                writer.flush()
        for candidate in group.candidates:
            group_results(candidate, self.loaded, self.recordings(candidate), writer)
        writer.flush()
        if engine is not None and checking is not None:
            self._compare(checking, group)

    def _key(self, candidate: Candidate, recorded: RecordedTask) -> CellKey:
        return recorded.key(candidate.fingerprint, self.request, candidate.model.dtype, candidate.model.quantization)

    def _open(self, cell: Cell, work: OpenWork, writer: CellWriter) -> Callable[[], None]:
        """Put a cell's open requests on the list; returns what stores a cell that needs no engine."""
        if reason := self._refusal(cell.recorded):
            return lambda: writer.fail(cell, "failed", reason)
        if not work.add(cell):
            return lambda: writer.finish(cell)
        return lambda: None

    def _refusal(self, recorded: RecordedTask) -> str | None:
        if not getattr(recorded.task, "UNSAFE_CODE", False) or self.request.unsafe_code:
            return None
        from tuneboard.sandbox import isolation

        found = isolation()
        return None if found.method else f"{found.reason}; or add --unsafe-code to run generated code unprotected"

    def _engine(self, group: EngineGroup) -> tuple[Engine | None, TuneboardError | None]:
        """Load the engine of a group, or return why it cannot be; raises that where nothing has been stored yet."""
        try:
            return self.load(group), None
        except TuneboardError as error:
            if not self.results:
                raise
            return None, error

    def load(self, group: EngineGroup) -> Engine:
        """Load the engine of a group with its adapters; raises where that fails, or prompts have no room."""
        self.hooks.listener.note(f"loading {group.candidates[0].model.id}")
        load = self.hooks.others.get(group.kind, self.hooks.load_engine)
        engine = load(group.candidates[0].model, self.hooks.listener.note)
        try:
            for candidate in group.candidates:
                if candidate.adapter is not None:
                    engine.attach(candidate.name, candidate.adapter)
            if isinstance(engine, LoadsLate):
                engine.start()
            base, room = group.candidates[0], engine.info.details.get("max_length")
            if group.kind == "causal" and room is not None:
                for line in room_notes(base.model.id, room, self.recordings(base).values()):
                    self.hooks.listener.note(line)
        except BaseException:
            engine.close()
            raise
        self.infos.append(engine.info)
        self.hooks.listener.ready()
        return engine

    def _answer(self, engine: Engine, group: EngineGroup, work: OpenWork, writer: CellWriter) -> None:
        self._withdraw_unapplied(engine, group, work, writer)
        for cell in work.answer(engine, names_in_engine(group)):
            writer.finish(cell)

    def _withdraw_unapplied(self, engine: Engine, group: EngineGroup, work: OpenWork, writer: CellWriter) -> bool:
        """Fail the cells of adapters that change nothing; returns whether there were any."""
        own = {candidate.name for candidate in group.candidates if candidate.adapter is not None}
        names = dict.fromkeys(cell.candidate.name for cell in work.cells if cell.candidate.name in own)
        asked, loaded = time.perf_counter(), load_seconds(engine)
        found = unapplied(engine, list(names))
        work.engine_seconds += time.perf_counter() - asked - (load_seconds(engine) - loaded)
        for name, reason in found.items():
            self.hooks.listener.note(reason)
            for cell in work.withdraw(name):
                writer.fail(cell, "invalid", reason)
        return bool(found)

    def _asked_twice(self, engine: Engine, group: EngineGroup) -> Checking | None:
        """Ask what the engine is to be checked on, while it is loaded."""
        if self.request.check_engine is None:
            return None
        checking = Checking(self.request.check_engine, self.hooks.listener.note)
        asked = [(one.name, task) for one in group.candidates for task in self.recordings(one).values()]
        try:
            checking.ask(engine, names_in_engine(group), asked)
        except Exception as error:  # engines call into drivers, which may raise anything; the results are stored
            self.hooks.listener.note(f"the engine cannot be checked: {error}")
            return None
        return checking

    def _compare(self, checking: Checking, group: EngineGroup) -> None:
        load = self.hooks.others.get(group.kind, self.hooks.reference)
        found = checking.compare(load, group.candidates, names_in_engine(group))
        self.checks.append({"model": group.candidates[0].model.id, **found.facts()})

    def _in_order(self) -> tuple[TaskResult, ...]:
        tasks = [*self.loaded.tasks, *self.loaded.groups]
        names = [candidate.name for candidate in self.request.candidates]
        return tuple(self.results[n, t] for t in tasks for n in names if (n, t) in self.results)


def names_in_engine(group: EngineGroup) -> dict[str, str]:
    """Return candidate to its name in the engine."""
    return {one.name: one.name if one.adapter is not None else BASE for one in group.candidates}


def _refuse_unwritable(db: Path) -> None:
    """Say before hours of work, and not after, that their results could not be stored."""
    folder = next(parent for parent in db.absolute().parents if parent.exists())
    place = db if db.exists() else folder
    if not folder.is_dir() or db.is_dir() or not os.access(place, os.W_OK):
        raise StoreError(f"cannot write {db}: no permission, or no place for a file; name another file with --db")


def _headlines(loaded: LoadedTasks) -> dict[str, str]:
    return {name: metric for name, metric in loaded.headlines.items() if metric}


def _unmeasured(headlines: Mapping[str, str], results: Sequence[TaskResult]) -> Iterator[str]:
    """Name the headlines that tasks with a scorer of their own turned out not to give."""
    for headline in dict.fromkeys(headlines.values()):
        wanted = headline.partition(",")[0]
        own = [result for result in results if headlines.get(result.task.name) == headline]
        measured = list(dict.fromkeys(one.metric for result in own for one in result.metrics))
        if measured and wanted not in measured:
            near = near_matches(wanted, measured)
            meant = f"did you mean {', '.join(near)}?" if near else f"it has: {', '.join(measured)}"
            yield f"{own[0].task.name} does not measure the headline metric '{wanted}' of the suite; {meant}"
