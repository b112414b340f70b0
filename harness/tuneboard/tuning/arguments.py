"""What transformers' Trainer is told."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from tuneboard.tuning.checkpoints import WorkFolder
from tuneboard.tuning.records import TrainingSpec

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True, slots=True)
class Settings:
    """A recipe's training settings, with what it leaves open."""

    spec: TrainingSpec
    steps: int
    """Optimizer steps in all."""
    learning_rate: float
    optimizer: str
    """transformers' name of it."""


def training_arguments(settings: Settings, place: WorkFolder, device: torch.device) -> Any:
    """Return transformers' ``TrainingArguments``; validating and saving are left to ``watch``."""
    from transformers import TrainingArguments

    spec = settings.spec
    arguments = TrainingArguments(
        output_dir=str(place.checkpoints),
        per_device_train_batch_size=spec.batch_size,
        per_device_eval_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_SCHEDULES[spec.schedule],
        # Rounded down: the first step of a warm-up has a learning rate of 0, and may be the only one there is.
        warmup_steps=int(spec.warmup * settings.steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.clip,
        optim=settings.optimizer,
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        seed=spec.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=1,
        report_to=["tensorboard"] if find_spec("tensorboard") else "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=device.type == "cuda",
        use_cpu=device.type == "cpu",
    )
    arguments._setup_devices  # noqa: B018  # sets the number of GPUs, of which one is used
    arguments._n_gpu = min(1, arguments._n_gpu)
    return arguments


@contextmanager
def tensorboard(place: WorkFolder) -> Iterator[None]:
    """Within it, TensorBoard's logs go to the working folder, and what its thread cannot write is said once."""
    before, hook = os.environ.get("TENSORBOARD_LOGGING_DIR"), threading.excepthook

    def quiet(thrown: threading.ExceptHookArgs) -> None:
        # Its thread prints the error that its next call raises in ours.
        if not isinstance(thrown.exc_value, OSError):
            hook(thrown)

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(place.tensorboard)
    threading.excepthook = quiet
    try:
        yield
    finally:
        threading.excepthook = hook
        if before is None:
            os.environ.pop("TENSORBOARD_LOGGING_DIR", None)
        else:
            os.environ["TENSORBOARD_LOGGING_DIR"] = before
