"""The frozen records that flow through the fine-tuning stage; standard library only.

``Recipe`` says what to train; ``Example``s are what it trains on; ``PreparedData`` is what is left of them after
cleaning and splitting, with a ``DataReport`` that counts every step; ``Trained`` is what came out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tuneboard.records import ModelRef

#: What a model is trained for: next tokens, a label by a head of its own, or a text by an encoder and a decoder.
ModelKind: TypeAlias = Literal["causal", "classification", "seq2seq"]
RowFormat: TypeAlias = Literal["text", "completion", "instruction", "chat", "label"]
LeakPolicy: TypeAlias = Literal["remove", "list", "refuse"]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One source of training data."""

    path: str
    """A JSONL, CSV or Parquet file (relative paths: from the recipe's folder), or a data set's id on the hub."""
    config: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    format: RowFormat | Literal["auto"] = "auto"
    """``auto`` tells it by the columns."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of the format to the column that holds it: ``{prompt: question, completion: answer}``."""
    template: str | None = None
    """Prompt with ``{column}`` places, in place of the format's own."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label in the data to the name that is learnt in its place: ``{"0": negative, "1": positive}``."""
    weight: float | None = None
    """Share of this source among the training examples, relative to the others' weights; where no source has one, all
    rows of all sources are trained on."""
    limit: int | None = None
    """Most rows to take, drawn with the recipe's seed."""
    replay: bool = False
    """Old material against forgetting: it is trained on and never validated on."""


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """How validation examples are set apart."""

    by: Literal["holdout", "stratified", "kfold", "time", "none"] = "holdout"
    fraction: float = 0.1
    """Share of validation examples, for all but ``kfold``."""
    folds: int = 5
    fold: int = 0
    """Which fold validates, 0 to folds - 1."""
    column: str | None = None
    """Column to stratify by (default: the label) or to sort by (``time``; the latest rows validate)."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CleaningSpec:
    """What is removed, and what only flagged."""

    exact_duplicates: bool = True
    near_duplicates: float | None = 0.9
    """Least Jaccard similarity of two near-duplicates' word 5-grams; None leaves them in."""
    empty: bool = True
    overlong: Literal["truncate", "drop"] = "truncate"
    balance: Literal["none", "undersample", "oversample"] = "none"
    """How labels are evened out."""
    secrets: Literal["flag", "drop", "ignore"] = "flag"
    """API keys, private keys, e-mail addresses."""


@dataclass(frozen=True, slots=True)
class LeakSpec:
    """Which benchmarks the training data must not contain."""

    against: tuple[str, ...] = ()
    """Suites, tasks or groups; empty: those of ``--evaluate``."""
    policy: LeakPolicy = "remove"
    ngram: int = 8
    """Words of one n-gram."""
    overlap: float = 0.5
    """Least share of a benchmark item's n-grams that is found in one row."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What to train on."""

    sources: tuple[SourceSpec, ...]
    validation: SourceSpec | None = None
    """A source of validation examples; None sets them apart from the others by ``split``."""
    split: SplitSpec = SplitSpec()
    cleaning: CleaningSpec = CleaningSpec()
    leaks: LeakSpec = LeakSpec()
    max_length: int = 1024
    """Tokens of one example."""
    loss_on: Literal["answer", "all"] = "answer"
    limit: int | None = None
    """Most training examples, drawn with the seed; for sweeps over the data size."""


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """How to train."""

    epochs: float = 3.0
    max_steps: int | None = None
    """Optimizer steps; wins over ``epochs``."""
    batch_size: int = 8
    """Examples (or packed rows) of one forward pass."""
    gradient_accumulation: int = 1
    learning_rate: float | None = None
    """None takes the method's own."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    optimizer: str = "auto"
    """``adamw``, ``adamw_8bit``, ``paged_adamw_8bit``; ``auto`` takes the method's own."""
    batching: Literal["packed", "grouped", "plain"] = "packed"
    """``packed`` joins examples to rows of ``max_length`` without padding (causal models only, grouped elsewhere)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    validate_every: int | None = None
    """Optimizer steps; None: each epoch."""
    patience: int | None = None
    """Validations without a better loss after which training ends; None never ends early."""
    restore_best: bool = True
    """Whether the checkpoint with the lowest validation loss is what comes out."""
    checkpoint_every: int | None = None
    """Optimizer steps between checkpoints that a killed training goes on from; None: as ``validate_every``."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training, resolved: no sweep, one seed."""

    name: str
    """The candidate's."""
    base: ModelRef
    method: str
    options: Mapping[str, Any]
    """The method's own settings, complete."""
    data: DataSpec
    training: TrainingSpec
    kind: ModelKind | Literal["auto"] = "auto"
    """``auto`` tells it by the base model and the data."""
    description: str = ""
    folder: str = "."
    """Where relative data paths start."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data in the form that all formats come to."""

    text: str
    """The prompt; the whole text where there is no answer; the input of a label."""
    answer: str = ""
    """What follows the prompt; the name of the label."""
    messages: tuple[tuple[str, str], ...] = ()
    """``(role, content)`` of a chat; then ``text`` and ``answer`` are empty."""
    format: RowFormat = "text"
    text_pair: str | None = None
    """Second input of a label, such as a hypothesis."""
    place: str = ""
    """Where it comes from, for people: ``train.jsonl line 17``."""
    key: str | None = None
    """Value of the column to stratify or sort by."""
    replay: bool = False

    @property
    def whole(self) -> str:
        """All of its text, for finding duplicates and leaks."""
        parts = [content for _, content in self.messages] or [self.text, self.text_pair or "", self.answer]
        return "\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What one source held."""

    path: str
    format: str
    rows: int
    sha256: str
    """Of the file, or of the rows taken."""


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """What one step did."""

    name: str
    removed: int
    flagged: int = 0
    places: tuple[str, ...] = ()
    """Up to 20 rows that it met."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A benchmark item that stands in the training data."""

    task: str
    doc_id: int
    place: str
    """The row."""
    overlap: float
    """Share of the item's n-grams that the row holds."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """What happened to the data on its way to the model."""

    sources: tuple[SourceReport, ...]
    steps: tuple[CleaningStep, ...]
    leaks: tuple[Leak, ...]
    train: int
    validation: int
    labels: Mapping[str, int] = field(default_factory=dict)
    """Label to training examples."""
    mixture: Mapping[str, int] = field(default_factory=dict)
    """Source to training examples."""
    sha256: str = ""
    """Over all training and validation examples, in order."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Examples ready to be encoded."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    report: DataReport
    labels: tuple[str, ...] = ()
    """Names of the classes, sorted; empty but for classification."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One logged moment of a training."""

    step: int
    epoch: float
    name: str
    """``loss``, ``validation_loss``, ``learning_rate``, ``grad_norm``, ``tokens_per_s``, ``memory_gib``."""
    value: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to, before it is published."""

    steps: int
    epochs: float
    seconds: float
    """Wall time, over all sittings of a training that was killed and went on."""
    cpu_seconds: float
    tokens: int
    """Tokens that went through the model in training, padding apart."""
    loss: float
    validation_loss: float | None
    first_validation_loss: float | None
    """Before the first step."""
    best_step: int | None
    trained_parameters: int
    total_parameters: int
    peak_memory_gib: float
    curve: tuple[CurvePoint, ...]
    warnings: tuple[str, ...]
    resumed: int = 0
    """How often it went on from a checkpoint."""
