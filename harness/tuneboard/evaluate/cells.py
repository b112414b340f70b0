"""Cells while they are computed: what is still open, what was answered, and how they enter the database."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from tuneboard.engines.protocol import Answer, Engine, Work, load_seconds
from tuneboard.evaluate.recording import RecordedTask
from tuneboard.evaluate.replaying import replay, scoring_fault
from tuneboard.evaluate.request import Listener
from tuneboard.records import Candidate, CellKey, Response, SampleScore, TaskResult, TokenCount, fingerprint
from tuneboard.store.journal import Journal, discard_dead, journal_folder, read_answers, read_cut
from tuneboard.store.writes import Store

#: Journals are forced to the disk this often; a kill loses nothing in between, a power cut these seconds.
_SYNC_S = 15.0
#: Completed cells enter the database together at this interval: a transaction takes longer than inserting a small cell.
#: Until then their journals keep them.
FLUSH_S = 1.0
#: Groups that the requests of a repeat are dealt to: enough to mix batches, few enough that each still fills some.
_SHUFFLED_GROUPS = 4


@dataclass(slots=True, eq=False)
class Cell:
    """One candidate on one task, on its way to the database."""

    candidate: Candidate
    recorded: RecordedTask
    key: CellKey
    answers: dict[str, Response] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    """Request hashes without an answer."""
    cut: set[str] = field(default_factory=set)
    """Request hashes that were cut to fit the context, whichever run answered them."""
    tokens: TokenCount = field(default_factory=TokenCount)
    seconds: float = 0.0
    journal: Journal | None = None
    spare: bool = False
    """Whether journals hold answers to other requests of its scope, such as those of a larger ``--limit``."""

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.recorded.ref.name


class OpenWork:
    """The open requests of many cells; a request that several cells of a candidate share is asked once.

    Args:
        store: Has the answers of earlier runs.
        listener: Told of cells and their progress.
    """

    def __init__(self, store: Store, listener: Listener) -> None:
        self.store, self.listener = store, listener
        self.folder = journal_folder(store.path)
        self.scopes, self.kin = store.scopes(), store.kin()
        self.cells: list[Cell] = []
        self.engine_seconds = 0.0

    def add(self, cell: Cell) -> bool:
        """Gather what is known of a cell; returns whether anything is left to ask."""
        scope = cell.key.scope
        asks = cell.recorded.asks
        stored, journalled = self._known(scope)
        known, sources = stored | journalled, [scope]
        if asks.keys() - known.keys():
            # A task whose scorer was mended is another task with the same requests.
            kin = [one for one in self.kin.get(cell.key.asked_of(cell.name), ()) if one != scope]
            sources += kin
            known = {key: answer for one in kin for part in self._known(one) for key, answer in part.items()} | known
        cell.spare = any(one not in asks and one not in stored for one in journalled)
        cell.answers = {one: known[one] for one in asks if one in known}
        cell.open = set(asks) - set(cell.answers)
        cell.cut = {key for one in sources for key in self._cut(one) if key in cell.answers}
        self.listener.add(cell.candidate.name, cell.name, len(asks), len(cell.answers))
        if cell.open:
            cell.journal = Journal(self.folder, scope)
            self.cells.append(cell)
        return bool(cell.open)

    def _known(self, scope: str) -> tuple[dict[str, Response], dict[str, Response]]:
        """Return the answers of a scope that are in finished cells, and those in journals."""
        return self.store.answers(scope) if scope in self.scopes else {}, read_answers(self.folder, scope)

    def _cut(self, scope: str) -> set[str]:
        return (self.store.cut(scope) if scope in self.scopes else set()) | read_cut(self.folder, scope)

    def withdraw(self, candidate: str) -> list[Cell]:
        """Take the cells of a candidate off the list."""
        gone = [cell for cell in self.cells if cell.candidate.name == candidate]
        self.cells = [cell for cell in self.cells if cell.candidate.name != candidate]
        return gone

    def answer(
        self, engine: Engine, engine_names: Mapping[str, str], wanted: Sequence[tuple[Cell, str]] | None = None
    ) -> Iterator[Cell]:
        """Have an engine answer; yields each cell as it is complete.

        Args:
            engine: With all adapters attached.
            engine_names: Candidate to its name in the engine.
            wanted: Cells with the open requests to answer, by hash; None answers everything.
        """
        owners: defaultdict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell, one in self._open() if wanted is None else wanted:
            owners[cell.candidate.name, one].append(cell)
        keys = list(owners)
        loaded = load_seconds(engine)
        last = synced = time.perf_counter()
        for answer in _answers(engine, self._work(owners, engine_names)):
            now = time.perf_counter()
            self.engine_seconds += now - last
            waiting = owners[keys[answer.id]]
            waiting[0].seconds += now - last
            waiting[0].tokens += answer.tokens
            for cell in waiting:
                self._take(cell, keys[answer.id][1], answer, first=cell is waiting[0])
            if now - synced > _SYNC_S:
                synced = now
                for cell in self.cells:
                    if cell.journal is not None:
                        cell.journal.sync()
            for cell in waiting:
                if not cell.open:
                    yield cell
            last = time.perf_counter()
        self.engine_seconds -= load_seconds(engine) - loaded

    def _open(self) -> Iterator[tuple[Cell, str]]:
        return ((cell, one) for cell in self.cells for one in cell.recorded.asks if one in cell.open)

    def _work(self, owners: Mapping[tuple[str, str], Sequence[Cell]], engine_names: Mapping[str, str]) -> list[Work]:
        order = {name: place for place, name in enumerate(dict.fromkeys(cell.name for cell in self.cells))}
        work: list[Work] = []
        for (candidate, one), cells in owners.items():
            cell, ask = cells[0], cells[0].recorded.asks[one]
            group = _shuffled(one, cell.key.repeat) if cell.key.repeat else order[cell.name]
            work.append(Work(len(work), engine_names[candidate], ask.kind, ask.arguments, group, ask.seed))  # type: ignore[arg-type]
        return work

    def _take(self, cell: Cell, request_hash: str, answer: Answer, first: bool) -> None:
        cell.open.discard(request_hash)
        if answer.tokens.truncated:
            cell.cut.add(request_hash)
        if answer.response is None:
            cell.errors[request_hash] = answer.error or "the engine gave no answer"
        else:
            cell.answers[request_hash] = answer.response
            if cell.journal is not None:
                cell.journal.append([(request_hash, answer.response)], cell.cut)
        tokens = answer.tokens.computed if first else 0
        self.listener.advance(cell.candidate.name, cell.name, 1, tokens)

    def close(self) -> None:
        """Let go of the journals of cells that were not completed; they are read by the next run."""
        for cell in self.cells:
            if cell.journal is not None:
                cell.journal.close()


class CellWriter:
    """Turns completed cells into results and stores them.

    Args:
        store: Where they go.
        run_id: Gives the run's id.
        listener: Told when a cell is done.
        seed: For resampling.
        results: Filled with every result, by candidate and task.
    """

    def __init__(
        self,
        store: Store,
        run_id: Callable[[], str],
        listener: Listener,
        seed: int,
        results: dict[tuple[str, str], TaskResult],
    ) -> None:
        self.store, self.run_id, self.listener, self.seed, self.results = store, run_id, listener, seed, results
        self._waiting: list[tuple[TaskResult, Cell | None]] = []
        self._flushed = 0.0

    def finish(self, cell: Cell) -> None:
        """Score a cell whose requests are all answered, and store it."""
        started = time.perf_counter()
        try:
            replayed = replay(cell.recorded, cell.answers, cell.errors, self.seed)
        except Exception as error:  # a task's own code may raise anything; its cell fails, the others go on
            self.fail(cell, "failed", scoring_fault(error))
            return
        reasons = [sample.reason for sample in replayed.samples if sample.reason]
        result = TaskResult(
            candidate=cell.candidate,
            task=cell.recorded.ref,
            key=cell.key,
            kind="task",
            status="done" if replayed.n else "failed",
            metrics=replayed.metrics,
            samples=tuple(_marked(sample, cell.cut) for sample in replayed.samples),
            n=replayed.n,
            failed=replayed.failed,
            reason=reasons[0] if reasons else None,
            seconds=cell.seconds + time.perf_counter() - started,
            tokens=replace(cell.tokens, truncated=len(cell.cut & cell.recorded.asks.keys())),
        )
        self._store(result, cell if replayed.n else None)

    def fail(self, cell: Cell, status: Literal["failed", "invalid"], reason: str) -> None:
        """Store a cell that could not be computed, or that means nothing; its journal stays."""
        self.listener.add(cell.candidate.name, cell.name, len(cell.recorded.asks))
        self._store(TaskResult(cell.candidate, cell.recorded.ref, cell.key, "task", status, reason=reason))

    def reuse(self, found: Sequence[tuple[Cell, TaskResult]]) -> None:
        """Take finished cells of earlier runs."""
        for cell, _ in found:
            self.listener.add(cell.candidate.name, cell.name, len(cell.recorded.asks))
        self.reuse_results([replace(old, candidate=cell.candidate, task=cell.recorded.ref) for cell, old in found])
        folder = journal_folder(self.store.path)
        for cell, _ in found if folder.is_dir() else ():
            # A run that was killed between its commit and this step leaves a journal that nobody needs.
            journalled = read_answers(folder, cell.key.scope)
            if not journalled or journalled.keys() <= self.store.answers(cell.key.scope).keys():
                discard_dead(folder, cell.key.scope)

    def reuse_results(self, found: Sequence[TaskResult]) -> None:
        """Link finished results of earlier runs to this one."""
        if found:
            self.store.link_all(self.run_id(), found)
        for result in found:
            self._tell(replace(result, status="reused"))

    def store_results(self, results: Sequence[TaskResult]) -> None:
        """Store results that were computed from others."""
        for result in results:
            self._store(result)

    def flush(self) -> None:
        """Store what is waiting; then the journals of those cells are needed no more."""
        if self._waiting:
            self.store.commit_all(self.run_id(), [result for result, _ in self._waiting])
        for _, cell in self._waiting:
            if cell is not None:
                self._drop_journals(cell)
        self._waiting, self._flushed = [], time.perf_counter()

    def _store(self, result: TaskResult, cell: Cell | None = None) -> None:
        self._waiting.append((result, cell))
        self._tell(result)
        if time.perf_counter() - self._flushed >= FLUSH_S:
            self.flush()

    def _tell(self, result: TaskResult) -> None:
        # Holding the samples of all cells would grow with the suite; the database gets them.
        self.results[result.candidate.name, result.task.name] = replace(result, samples=())
        if result.kind == "task":
            self.listener.done(result.candidate.name, result.task.name, result.status)

    def _drop_journals(self, cell: Cell) -> None:
        if cell.journal is not None:
            cell.journal.discard()
            cell.journal = None
        if not cell.spare:
            discard_dead(journal_folder(self.store.path), cell.key.scope)


def _marked(sample: SampleScore, cut: Set[str]) -> SampleScore:
    places = tuple(place for place, one in enumerate(sample.request_hashes) if one in cut)
    return replace(sample, cut=places) if places else sample


def _shuffled(request_hash: str, repeat: int) -> int:
    """Draw a group, so that a repeat goes through the engine in other batches than the first evaluation."""
    return int(fingerprint(request_hash, repeat)[:8], 16) % _SHUFFLED_GROUPS


def _answers(engine: Engine, work: Sequence[Work]) -> Iterator[Answer]:
    """Pass answers on; what breaks the engine, or is left out by it, fails the requests that are still open."""
    open_ids = {item.id for item in work}
    reason = "the engine gave no answer"
    try:
        for answer in engine.run(work):
            open_ids.discard(answer.id)
            yield answer
    except Exception as error:  # engines call into drivers and models, which may raise anything
        reason = _first_line(error) or type(error).__name__
    yield from (Answer(item.id, None, reason) for item in work if item.id in open_ids)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else ""
