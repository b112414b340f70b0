"""What to evaluate, who is told of it, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tuneboard.config import Suite
from tuneboard.engines.kinds import Kind
from tuneboard.engines.protocol import Engine, Notice
from tuneboard.records import Candidate, CellStatus, ModelRef, TaskResult

#: Loads an engine for one base model.
EngineFactory = Callable[[ModelRef, Notice], Engine]


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How prompts are wrapped."""

    apply_chat_template: bool = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = True
    """Only with a chat template: each example is a turn of its own."""


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """One evaluation: candidates x suite."""

    candidates: tuple[Candidate, ...]
    """Resolved, with hashes; those of one base model share an engine."""
    suite: Suite
    db: Path
    engine: str = "transformers"
    include_paths: tuple[Path, ...] = ()
    mirror: Path | None = None
    limit: int | None = None
    """Documents per task; wins over the suite's."""
    num_fewshot: int | None = None
    seed: int = 1234
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    prompts: PromptSettings = PromptSettings()
    repeat: int = 0
    max_length: int | None = None
    """Context length in tokens that the engine is held to, in place of the model's own."""
    unsafe_code: bool = False
    """Run generated code without isolation where there is none."""
    command: str = ""
    """Command line, for the record."""
    task_files: tuple[Path, ...] = ()
    """YAML of single tasks of the user's own."""
    check_engine: int | None = None
    """Requests on which the engine is held against a reference and against itself; None: it is not checked."""


class Listener(Protocol):
    """Told how far the work is; ``report.progress.Progress`` is one."""

    def add(self, candidate: str, task: str, total: int, known: int = 0) -> None:
        """A cell of ``total`` requests is to be computed, of which ``known`` were answered before."""
        ...

    def ready(self) -> None:
        """An engine is loaded; answers come from now on."""
        ...

    def advance(self, candidate: str, task: str, n: int = 1, tokens: int = 0) -> None:
        """``n`` requests of it were answered."""
        ...

    def done(self, candidate: str, task: str, status: CellStatus) -> None:
        """The cell is finished."""
        ...

    def note(self, line: str) -> None:
        """Something worth a line happened."""
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an evaluation needs from outside."""

    load_engine: EngineFactory
    """For causal models, and for every kind that ``others`` does not name."""
    listener: Listener
    others: Mapping[Kind, EngineFactory] = field(default_factory=dict)
    reference: EngineFactory | None = None
    """For causal models, what an engine is checked against; None where the weights are not at hand."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out."""

    run: str
    seconds: float
    engine: Mapping[str, Any]
    """``name``, ``version``, ``device``, ``dtype``; only ``name`` is known where every cell was reused. Where the
    engine was checked, also ``checks``: a list with the facts of one check per loaded model."""
    results: tuple[TaskResult, ...]
    """In the order of the suite, candidates in the order given; groups after their members."""
    headlines: Mapping[str, str] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    """Seconds: ``load_s`` for loading models, ``engine_s`` while engines answered; the rest went on around them."""

    @property
    def sound(self) -> bool:
        """Whether no cell failed or is invalid."""
        return all(result.status in ("done", "reused") for result in self.results)
