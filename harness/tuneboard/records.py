"""The frozen records that flow through tuneboard; standard library only.

``ModelRef`` + optional ``AdapterRef`` = ``Candidate``. Evaluating a suite gives one ``TaskResult`` per candidate and
task, made of ``SampleScore``s. A *cell* is one such result in the database; ``CellKey`` says what it is a result of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

#: What an engine answers: ``(log-probability, is greedy)``, a rolling log-probability, or a generated text.
Response: TypeAlias = "tuple[float, bool] | float | str"

CellStatus: TypeAlias = Literal["done", "reused", "failed", "invalid"]
CellKind: TypeAlias = Literal["task", "group"]
Role: TypeAlias = Literal["target", "guard", "none"]

#: Characters of a cluster's name; passages are longer, and would stand in every row.
_LONGEST_CLUSTER = 64


def fingerprint(*parts: Any) -> str:
    """Return a 64-character SHA-256 over ``parts``, equal for equal JSON whatever the order of keys."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def cluster_name(value: Any, doc_id: int) -> str:
    """Name what a document shares with others by the value of its task's cluster column; long values by their hash.

    Args:
        value: Anything that JSON knows. None is shared with nobody.
        doc_id: Of the document.
    """
    if value is None:
        return f"document {doc_id}"
    text = str(value)
    return text if isinstance(value, str | int) and len(text) <= _LONGEST_CLUSTER else fingerprint(value)[:16]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A base model or full checkpoint."""

    id: str
    """Local path or hub id, as the user gave it."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None for a local path or the default branch."""
    dtype: str = "auto"
    """``auto`` (as stored), ``float32``, ``bfloat16``, ``float16`` or ``float64``."""
    quantization: str | None = None
    """``4bit``, ``8bit`` or None."""
    sha256: str = ""
    """Hash over the weight and config files (local), or the resolved hub commit."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A PEFT adapter."""

    path: str
    sha256: str
    """Hash over the adapter's config and weights."""
    kind: str
    """peft's type in capitals: ``LORA``, ``IA3``, ..."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is evaluated: a base model, a base with one adapter, or another full checkpoint."""

    name: str
    model: ModelRef
    adapter: AdapterRef | None = None

    @property
    def fingerprint(self) -> str:
        """Identity of the weights; precision and engine belong to the cell, not to the candidate."""
        return fingerprint("candidate", self.model.sha256, self.adapter.sha256 if self.adapter else None)


@dataclass(frozen=True, slots=True)
class TaskRef:
    """One resolved task: what exactly was asked."""

    name: str
    fingerprint: str
    """Over the resolved config, few-shot number and seed, prompt settings (chat template, system text), data hash."""
    data_hash: str
    num_fewshot: int
    version: str
    output_type: str
    """lm-eval's: ``multiple_choice``, ``loglikelihood``, ``loglikelihood_rolling`` or ``generate_until``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved lm-eval config as JSON-able values."""
    n_docs: int = 0
    """Documents in the whole task, before any limit."""


@dataclass(frozen=True, slots=True)
class CellKey:
    """What a cell is a result of. Equal keys are never computed twice."""

    candidate: str
    """Fingerprint of the candidate."""
    task: str
    """Fingerprint of the task."""
    generation: str
    """Fingerprint of the generation settings that were given beside the task's own."""
    engine: str
    dtype: str
    quantization: str | None
    repeat: int
    """0 for the first evaluation, 1... for repeats of it under other seeds."""
    documents: str
    """Fingerprint of the document set: ``all`` or a hash over the ids of the limited set."""

    @property
    def scope(self) -> str:
        """Identity without the document set: answers are shared between cells of one scope."""
        return fingerprint(
            "scope", self.candidate, self.task, self.generation, self.engine, self.dtype, self.quantization, self.repeat
        )

    def asked_of(self, name: str) -> tuple[Any, ...]:
        """Return who is asked the task of this name and how, whatever version of the task it is.

        Equal requests have equal answers under one such identity.
        """
        return (name, self.candidate, self.generation, self.engine, self.dtype, self.quantization, self.repeat)

    @property
    def id(self) -> str:
        """Identity of the cell."""
        return fingerprint("cell", self.scope, self.documents)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a task, as asked; shared by all candidates."""

    doc_id: int
    doc_hash: str
    """lm-eval's hash of the document."""
    occurrence: int
    """0 for the first document with this hash, 1 for its first twin, ... (MMLU has 27 twins)."""
    prompt_hash: str
    prompt: str
    """Context of the first request."""
    choices: tuple[str, ...]
    """Continuations of log-likelihood requests, in order; empty for generation."""
    target: str
    cluster: str | None = None
    """What it shares with other documents, such as the text they ask about; None where the task names no such column
    (``metadata: {cluster: COLUMN}`` in its YAML)."""


@dataclass(frozen=True, slots=True)
class SampleScore:
    """What one candidate answered to one document, and what that scored."""

    document: Document
    request_hashes: tuple[str, ...]
    """One per response."""
    responses: tuple[Response | None, ...]
    """As the engine gave them; None where the engine failed."""
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    """Why the sample failed; failed samples are counted, never scored."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``{filter: {metric: value}}``; a value is a number, or what a corpus metric needs (JSON-able)."""
    filtered: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """``{filter: filtered responses}`` of generations; empty where it equals the responses."""
    cut: tuple[int, ...] = ()
    """Places of the responses whose requests were cut to fit the context."""


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One aggregated metric of a cell, on its own scale."""

    metric: str
    filter: str
    value: float
    stderr: float | None
    ci: tuple[float, float] | None
    """95 % interval."""
    higher_is_better: bool | None


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens that an engine handled for one cell."""

    computed: int = 0
    """Tokens that went through the model, padding apart."""
    reused: int = 0
    """Tokens that were asked for but came from a shared prefix or an identical request."""
    distinct: int = 0
    """Nodes of the prefix tree of all requests: the least that any engine must compute."""
    padded: int = 0
    """Padding that went through the model."""
    truncated: int = 0
    """Requests that were cut to fit the context."""

    def __add__(self, other: TokenCount) -> TokenCount:
        return TokenCount(
            self.computed + other.computed,
            self.reused + other.reused,
            self.distinct + other.distinct,
            self.padded + other.padded,
            self.truncated + other.truncated,
        )


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One candidate's result on one task or group: the content of a cell."""

    candidate: Candidate
    task: TaskRef
    key: CellKey
    kind: CellKind
    status: CellStatus
    metrics: tuple[MetricValue, ...] = ()
    samples: tuple[SampleScore, ...] = ()
    n: int = 0
    """Scored documents."""
    failed: int = 0
    """Documents that the engine could not answer, or whose answer could not be scored."""
    reason: str | None = None
    seconds: float = 0.0
    tokens: TokenCount = TokenCount()
    members: tuple[str, ...] = ()
    """Names of the tasks of a group."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took to answer, of one candidate; None where it was not measured."""

    tokens_per_s: float | None = None
    latency_p95_s: float | None = None
    peak_memory_gib: float | None = None
    machine: str = ""
    """Costs of different machines are not compared; empty stands for an unknown one."""
    first_token_s: float | None = None
    """Median time until the first generated token is there."""
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None
    joules_per_token: float | None = None
    energy_source: str | None = None
    """Whose counter was read: the processors' or the GPU's, all that they did meanwhile included."""
    timed: int | None = None
    """Requests, answered one at a time, that latencies come of; None where speed alone is known, from an evaluation."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a run came to be."""

    command: str
    """Command line, without secrets."""
    engine: Mapping[str, Any]
    """``name``, ``version``, ``device``, ``dtype``."""
    versions: Mapping[str, str]
    """Package name to version."""
    hardware: Mapping[str, Any]
    """CPU, cores, memory, GPUs."""
    seeds: Mapping[str, int]
    suite: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that was asked for: limits, few-shot, chat template, ..."""
