"""transformers' Trainer with our batches, losses, validation and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback

from tuneboard.tuning.batching import EpochOrder, Row, batches_of_like_length, collator
from tuneboard.tuning.batching import Layout as BatchLayout
from tuneboard.tuning.checkpoints import load_trained, save_trained, weights_file
from tuneboard.tuning.losses import SummedLoss, count_labels
from tuneboard.tuning.precision import Precision


@dataclass(frozen=True, slots=True)
class Rows:
    """What is trained on and validated on."""

    train: Sequence[Row]
    validation: Sequence[Row]
    layout: BatchLayout
    grouped: bool
    """Whether batches get rows of like length."""


class StageTrainer(Trainer):
    """Trains by sums: each step divides the losses of its batches by the number of their labels.

    Autocast is entered here and not left to accelerate, which wraps the model in it for good and so changes what it
    answers after training.

    Args:
        model: With gradients required on what is trained.
        arguments: transformers' ``TrainingArguments``.
        rows: Training and validation data.
        loss: Sums a batch's losses.
        precision: Of the products.
        watch: Hears everything and decides when to validate, save and stop.
    """

    control: Any

    def __init__(
        self, model: Any, arguments: Any, rows: Rows, loss: SummedLoss, precision: Precision, watch: TrainerCallback
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=list(rows.train),
            data_collator=collator(rows.layout),
            callbacks=[watch],
        )
        self.remove_callback(PrinterCallback)
        self.rows, self._summed, self._precision = rows, loss, precision
        self.loss_is_scaled_for_ga = True

    def compute_loss_context_manager(self) -> Any:
        """Return the autocast of this training."""
        enabled = self._precision == "bfloat16"
        return torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=enabled)

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the batch's share of the step's mean loss."""
        loss: torch.Tensor = self._summed(model, inputs) / num_items_in_batch
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the validation loss, each label weighing alike; draws no random numbers."""
        make: Callable[[Sequence[Row]], dict[str, Any]] = collator(self.rows.layout)
        total, count = 0.0, 0
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for rows in batches_of_like_length(self.rows.validation, self.args.per_device_eval_batch_size):
                batch = self._prepare_inputs(make(rows))
                total += float(self._summed(self.model, batch))
                count += count_labels(batch)
        self.model.train(training)
        metrics = {"eval_loss": total / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tell callbacks; the state keeps no history, which every checkpoint would carry."""
        logs["epoch"] = self.state.epoch or 0.0
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Return nothing: transformers' estimate walks over all weights at every step."""
        return 0

    def _get_train_sampler(self, *args: Any) -> EpochOrder:
        return EpochOrder(self.rows.train, self.args.train_batch_size, self.rows.grouped, self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Any]], device: Any) -> int:
        return sum(count_labels(batch) for batch in batch_samples)

    def _track_num_input_tokens(self, inputs: Mapping[str, Any]) -> None:
        self.state.num_input_tokens_seen += inputs["tokens"]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_trained(self.model, weights_file(Path(str(output_dir))))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained(self.model, weights_file(Path(resume_from_checkpoint)))
