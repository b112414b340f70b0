"""Small trainings for tests: examples that a tiny model can learn, jobs on tiny models, and processes to kill.

    python tests/tiny_training.py MODEL FOLDER OUT

For each line on stdin a process is forked, its id printed, and its exit code when it has ended; it trains in FOLDER and
writes the hash of the weights to OUT. The libraries are imported once, before the first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneboard.records import ModelRef
from tuneboard.tuning.records import DataReport, DataSpec, Example, ModelKind, PreparedData, Recipe, TrainingSpec

MODELS: dict[ModelKind, str] = {"causal": "llama", "classification": "bert", "seq2seq": "t5"}
LABELS = ("even", "odd")


def examples(kind: ModelKind, count: int = 40) -> tuple[Example, ...]:
    """Sums with answers of many lengths, or short texts with one of two labels."""
    if kind == "classification":
        return tuple(
            Example(f"the number {i} is {'red' if i % 2 else 'blue'}", LABELS[i % 2], format="label", place=f"row {i}")
            for i in range(count)
        )
    return tuple(
        Example(f"How much is {i} + {i}?", f" {2 * i}" + " and so on" * (i % 5), format="completion", place=f"row {i}")
        for i in range(count)
    )


def prepared(kind: ModelKind, count: int = 40, validation: int = 8) -> PreparedData:
    """Examples split in two."""
    rows = examples(kind, count)
    train, held = rows[: count - validation], rows[count - validation :]
    labels = LABELS if kind == "classification" else ()
    return PreparedData(train, held, DataReport((), (), (), len(train), len(held), sha256="data"), labels)


def recipe(
    model: Path,
    method: str = "lora",
    options: Mapping[str, Any] | None = None,
    max_length: int = 48,
    **training: Any,
) -> Recipe:
    """A recipe of few steps, at a rate that a tiny model learns by."""
    from tuneboard.tuning.methods import find_method

    module = find_method(method)
    settings = {"epochs": 4, "batch_size": 4, "learning_rate": 1e-2, **training}
    return Recipe(
        name="tiny",
        base=ModelRef(str(model), quantization=module.QUANTIZATION, sha256="base"),
        method=method,
        options=dataclasses.asdict(module.Options(**(options or {}))),
        data=DataSpec((), max_length=max_length),
        training=TrainingSpec(**settings),
    )


def job(given: Recipe, kind: ModelKind, folder: Path, data: PreparedData | None = None) -> Any:
    """A training of a freshly loaded base."""
    from tuneboard.tuning.bases import load_base, quantization_of
    from tuneboard.tuning.methods import find_method
    from tuneboard.tuning.training import TrainingJob

    data = data or prepared(kind)
    method = find_method(given.method)
    base = load_base(given.base, kind, data.labels, quantization_of(given, method))
    return TrainingJob(given, method, base, data, folder)


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self.notes: list[str] = []

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.steps.append((step, steps, dict(values)))

    def note(self, line: str) -> None:
        self.notes.append(line)


def digest(model: Any) -> str:
    """Hash of all weights that are trained, bit by bit."""
    from tuneboard.tuning.checkpoints import trained_weights

    sums = hashlib.sha256()
    for name, weight in sorted(trained_weights(model).items()):
        sums.update(name.encode())
        sums.update(weight.detach().float().cpu().numpy().tobytes())
    return sums.hexdigest()


def killable(model: Path) -> Recipe:
    """Dropout, validation, best weights and checkpoints at steps that divide neither each other nor the epoch."""
    return recipe(
        model,
        options={"dropout": 0.1, "targets": "all-linear", "rank": 4},
        epochs=8,
        batching="grouped",
        gradient_accumulation=2,
        validate_every=5,
        checkpoint_every=3,
        precision="float32",
    )


def _train(model: str, folder: str, out: str) -> None:
    from tuneboard.tuning.training import train

    trained, outcome = train(job(killable(Path(model)), "causal", Path(folder)), Ear())
    Path(out).write_text(json.dumps({**summary(trained, outcome), "resumed": outcome.resumed}), encoding="utf-8")


def summary(model: Any, outcome: Any) -> dict[str, Any]:
    """What two equal trainings have in common."""
    points = [[p.step, p.name, p.value] for p in outcome.curve if p.name in ("loss", "validation_loss", "grad_norm")]
    counts = {"tokens": outcome.tokens, "best": outcome.best_step, "steps": outcome.steps}
    return {"weights": digest(model), "curve": points, **counts}


def _serve(arguments: list[str]) -> None:
    import peft  # noqa: F401
    import transformers.trainer  # noqa: F401

    import tuneboard.tuning.training  # noqa: F401

    for _ in sys.stdin:
        process = os.fork()
        if process == 0:
            code = 1
            try:
                _train(*arguments)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1:])
