"""Evaluates batch by batch what a sequential gate asks for, and no more than it needs.

Requests are built once, engines loaded once; answers of earlier runs and of journals count, so that an interrupted gate
goes on where it was. What was asked enters the database as a result on those documents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuneboard.engines.protocol import Engine, load_seconds
from tuneboard.errors import DataError
from tuneboard.evaluate.cells import Cell, OpenWork
from tuneboard.evaluate.grouping import group_results
from tuneboard.evaluate.placing import EngineGroup
from tuneboard.evaluate.reference import Reference
from tuneboard.evaluate.replaying import replay_samples
from tuneboard.evaluate.request import EvaluateRequest, Evaluation, Hooks
from tuneboard.evaluate.running import Evaluating, names_in_engine
from tuneboard.evaluate.streams import task_streams
from tuneboard.gates import Batch, Policy, SequentialGate
from tuneboard.records import Candidate
from tuneboard.store.baselines import Baseline


@dataclass(frozen=True, slots=True)
class GateEvaluation:
    """What was evaluated for a gate."""

    evaluation: Evaluation
    gate: SequentialGate | None
    """Decided; None where every result was there already, or where one could not be had: then the comparison of the run
    tells."""
    asked: Mapping[str, int]
    """Task to the samples that were asked anew."""
    documents: Mapping[str, frozenset[int]]
    """Task to the documents that were looked at."""


def evaluate_for_gate(
    request: EvaluateRequest, policy: Policy, hooks: Hooks, baseline: Baseline | None = None
) -> GateEvaluation:
    """Evaluate until every rule of a policy is decided.

    Args:
        request: The policy's base and candidate on its tasks, whole; the candidate alone with a baseline.
        policy: Its rules decide when to stop.
        hooks: Engines and who is told.
        baseline: Stands for the base, whose scores it holds.

    Raises:
        BaselineMismatch: The baseline was not asked what the candidate is.
        TuneboardError: As for ``evaluate``; also where a model does not load or a task's samples cannot be scored.
    """
    work = _Sequential(request, policy, hooks)
    work.reference = Reference(baseline) if baseline else None
    done = work.run()
    documents = {task: frozenset(docs) for task, docs in work.asked.items()}
    return GateEvaluation(done, work.gate, dict(work.fresh), documents)


class _Sequential(Evaluating):
    def __init__(self, request: EvaluateRequest, policy: Policy, hooks: Hooks) -> None:
        super().__init__(request, hooks)
        self.policy = policy
        self.gate: SequentialGate | None = None
        self.reference: Reference | None = None
        self.fresh: defaultdict[str, int] = defaultdict(int)
        self._cells: dict[tuple[str, str], Cell] = {}
        self.asked: defaultdict[str, set[int]] = defaultdict(set)
        self._engines: dict[str, Engine] = {}
        self._broken = False

    def _evaluate_groups(self, groups: Sequence[EngineGroup]) -> None:
        if self._nothing_is_missing():
            super()._evaluate_groups(groups)
            return
        self.work, self.writer = OpenWork(self.store, self.hooks.listener), self._writer()
        gate = SequentialGate(self.policy, task_streams(self.loaded, self.request.suite.tasks))
        try:
            while not self._broken and (batch := gate.next_batch()) is not None:
                self._ask(batch, groups)
                if not self._broken:
                    gate.feed(batch, *(self._scores(name, batch) for name in (self.policy.base, self.policy.candidate)))
        finally:
            self.timing["engine_s"] += self.work.engine_seconds
            self.work.close()
            for engine in self._engines.values():
                self.timing["load_s"] += load_seconds(engine)
                engine.close()
        if not self._broken:
            self.gate = gate
            self._finish()
        self.writer.flush()

    def _nothing_is_missing(self) -> bool:
        keys = [
            self._key(candidate, recorded)
            for candidate in self.request.candidates
            for recorded in self.recordings(candidate).values()
        ]
        found = self.store.find_all(keys)
        return all(key in found and found[key].failed == 0 for key in keys)

    def _candidate(self, name: str) -> Candidate:
        for candidate in self.request.candidates:
            if candidate.name == name:
                return candidate
        raise DataError(self.left_out.get(name, f"'{name}' is not evaluated; name it in the policy"))

    def _cell(self, name: str, task: str) -> Cell:
        """Return the cell of a candidate on a whole task, with all answers that are there already."""
        if (name, task) not in self._cells:
            candidate = self._candidate(name)
            recorded = self.recordings(candidate)[task]
            cell = self._cells[name, task] = Cell(candidate, recorded, self._key(candidate, recorded))
            if self.reference is not None:
                self.reference.check(recorded, cell.key)
            if reason := self._refusal(recorded):
                self.writer.fail(cell, "failed", reason)
                self._broken = True
            else:
                self.work.add(cell)
        return self._cells[name, task]

    def _ask(self, batch: Batch, groups: Sequence[EngineGroup]) -> None:
        anew: set[tuple[str, int]] = set()
        for group in groups:
            wanted: dict[tuple[Cell, str], None] = {}
            for candidate in group.candidates:
                for task, doc in batch.items:
                    cell = self._cell(candidate.name, task)
                    for one in (one for repeats in cell.recorded.hashes[doc] for one in repeats if one in cell.open):
                        wanted[cell, one] = None
                        anew.add((task, doc))
            if self._broken:
                return
            if wanted:
                engine = self._ready(group)
                if engine is None:
                    return
                for _ in self.work.answer(engine, names_in_engine(group), list(wanted)):
                    pass  # cells of whole tasks; what was asked of them is stored at the end
        for task, doc in batch.items:
            self.asked[task].add(doc)
        for task, _ in anew:
            self.fresh[task] += 1

    def _ready(self, group: EngineGroup) -> Engine | None:
        """Return a group's engine, loaded; None where an adapter in it changes nothing."""
        name = group.candidates[0].name
        if name not in self._engines:
            engine = self._engines[name] = self.load(group)
            self._broken = self._withdraw_unapplied(engine, group, self.work, self.writer)
        return None if self._broken else self._engines[name]

    def _scores(self, name: str, batch: Batch) -> list[float | None]:
        metric, filter_name = batch.stream.metric, batch.stream.filter
        if self.reference is not None and name == self.policy.base:
            return [self.reference.score(task, doc, metric, filter_name) for task, doc in batch.items]
        docs: defaultdict[str, list[int]] = defaultdict(list)
        for task, doc in batch.items:
            docs[task].append(doc)
        found: dict[tuple[str, int], float] = {}
        for task, ids in docs.items():
            cell = self._cell(name, task)
            try:
                samples = replay_samples(cell.recorded.subset(ids), cell.answers, cell.errors)
            except Exception as error:  # a task's own code may raise anything
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"task '{task}' cannot score its samples: {type(error).__name__}: {reason}") from error
            for sample in samples:
                score = sample.metrics.get(filter_name, {}).get(metric)
                if isinstance(score, int | float):
                    found[task, sample.document.doc_id] = float(score)
        return [found.get(item) for item in batch.items]

    def _finish(self) -> None:
        """Store what was asked as results on those documents."""
        for (_, task), cell in self._cells.items():
            part = cell.recorded.subset(self.asked[task])
            # Answers to other documents, of an interrupted run, stay in their journal.
            spare = not cell.answers.keys() <= part.asks.keys()
            done = replace(cell, recorded=part, key=self._key(cell.candidate, part), spare=spare)
            cell.journal = None
            self.writer.finish(done)
        self.writer.flush()
        for candidate in self.request.candidates:
            recorded = self.recordings(candidate)
            known = {name for name in recorded if (candidate.name, name) in self.results}
            groups = {
                name: group
                for name, group in self.loaded.groups.items()
                if {task.task_name for task in group.get_all_tasks()} <= known
            }
            group_results(candidate, replace(self.loaded, groups=groups), recorded, self.writer)
