"""Trains one recipe: from a base and prepared data to a trained model, with transformers' Trainer underneath.

The same recipe and seed give the same bits again on one machine, and so does a training that was killed and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneboard.engines.loading import quiet_transformers
from tuneboard.engines.memory import is_out_of_memory
from tuneboard.engines.tokens import context_length
from tuneboard.errors import DataError, OutOfMemory, UsageError
from tuneboard.tuning.arguments import Settings, tensorboard, training_arguments
from tuneboard.tuning.bases import Base
from tuneboard.tuning.batching import Layout, pack, single_rows, steps_per_epoch
from tuneboard.tuning.casting import converted_once
from tuneboard.tuning.checkpoints import Checkpoint, WorkFolder, opened
from tuneboard.tuning.encoding import Encoded, EncodingReport, EncodingRules, encode
from tuneboard.tuning.isolation import by_document, keeps_apart
from tuneboard.tuning.losses import summed_loss
from tuneboard.tuning.methods import Method
from tuneboard.tuning.methods._counting import parameter_counts
from tuneboard.tuning.precision import choose_optimizer, choose_precision, deterministic, trained_in
from tuneboard.tuning.recipe import recipe_fingerprint
from tuneboard.tuning.records import PreparedData, Recipe, Trained
from tuneboard.tuning.trainer import Rows, StageTrainer
from tuneboard.tuning.watch import Watch, WatchSettings
from tuneboard.tuning.watching import Clock, CurveFile, Plan, TrainingListener, warnings_before

__all__ = ["TrainingJob", "TrainingListener", "train"]


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """All that a training needs."""

    recipe: Recipe
    method: Method
    base: Base
    data: PreparedData
    folder: Path
    """Working folder; a training that was killed goes on from what it left there."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A job, ready to start."""

    job: TrainingJob
    model: Any
    rows: Rows
    encoding: EncodingReport
    settings: Settings
    per_epoch: int


def train(job: TrainingJob, listener: TrainingListener) -> tuple[Any, Trained]:
    """Train, going on from the last checkpoint where there is one.

    Returns:
        The model as the method made it, with the best checkpoint's weights if the recipe wants them, and what the
        training came to.

    Raises:
        UsageError: Options that do not fit the model; the working folder is another recipe's; the loss is no number.
        DataError: There is nothing to learn.
        OutOfMemory: The batches do not fit.
        StoreError: The working folder cannot be written, or another process is at work in it.
    """
    recipe = job.recipe
    identity = recipe_fingerprint(recipe, job.data.report.sha256, recipe.base.sha256)
    device = next(job.base.model.parameters()).device
    with opened(job.folder, identity, recipe.name) as place, deterministic(device), quiet_transformers():
        try:
            return _train(job, place, listener)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(f"'{recipe.name}' does not fit into memory; {_smaller(recipe, job.method)}") from error


def _smaller(recipe: Recipe, method: Method) -> str:
    """Say which settings of a recipe could still be lighter."""
    spec = recipe.training
    ways = [f"lower training.batch_size (now {spec.batch_size})"] if spec.batch_size > 1 else []
    if not spec.gradient_checkpointing and getattr(method, "GRADIENT_CHECKPOINTING", True):
        ways.append("set training.gradient_checkpointing: true")
    return ", or ".join([*ways, f"lower data.max_length (now {recipe.data.max_length})"])


def _train(job: TrainingJob, place: WorkFolder, listener: TrainingListener) -> tuple[Any, Trained]:
    spec = job.recipe.training
    model = _method_model(job)
    train_rows, validation, encoding = _encoded(job, model, listener)
    device = next(model.parameters()).device
    precision = choose_precision(spec, device, job.base.total_parameters)
    checkpoint = place.last_checkpoint()
    with ExitStack() as stack:
        stack.enter_context(trained_in(model, precision))
        stack.enter_context(_as_before(model))
        rows = _laid_out(job, model, train_rows, validation, stack, listener)
        stack.enter_context(converted_once(model, precision))
        loss = stack.enter_context(summed_loss(model, job.base.kind))
        ready = _prepared(job, model, rows, encoding, listener)
        watch = _watch(ready, place, checkpoint, listener)
        with tensorboard(place):  # its callback reads the place when it is made
            arguments = training_arguments(ready.settings, place, device)
            trainer = StageTrainer(model, arguments, rows, loss, precision, watch)
            if checkpoint is None and rows.validation:
                trainer.evaluate()
            trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        watch.restore(model, place)
        trained = watch.trained(*parameter_counts(model))
        _release(trainer)
    model.eval()
    return model, trained


def _encoded(
    job: TrainingJob, model: Any, listener: TrainingListener
) -> tuple[list[Encoded], list[Encoded], EncodingReport]:
    data, tokenizer = job.recipe.data, job.base.tokenizer
    length = _length(job, model, listener)
    rules = EncodingRules(job.base.kind, length, data.loss_on, data.cleaning.overlong, job.data.labels)
    train_rows, report = encode(job.data.train, tokenizer, rules)
    validation, _ = encode(job.data.validation, tokenizer, rules)
    if not train_rows:
        raise DataError(
            f"'{job.recipe.name}' has nothing to learn: {report.examples} training examples, {report.dropped} of them "
            f"dropped; raise data.max_length (now {data.max_length}) or set cleaning.overlong: truncate"
        )
    return train_rows, validation, report


def _length(job: TrainingJob, model: Any, listener: TrainingListener) -> int:
    """Tokens of one example at most: the recipe's, and what the model holds beside virtual tokens."""
    base = job.base
    context = context_length(base.model.config, base.tokenizer)
    if base.kind != "causal":
        # RoBERTa counts positions from 2, and only its tokenizer says so.
        context = min(context, int(base.tokenizer.model_max_length))
    virtual = int(getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", 0) or 0)
    holds, wanted = max(2, context - virtual), job.recipe.data.max_length
    if wanted > holds:
        beside = f" beside {virtual} virtual ones" if virtual else ""
        listener.note(
            f"data.max_length {wanted} is above the {holds} tokens that the model reads{beside}: cut to these"
        )
    return min(wanted, holds)


def _method_model(job: TrainingJob) -> Any:
    from transformers import set_seed

    set_seed(job.recipe.training.seed)
    _draw_new_weights(job.base)
    return job.method.prepare(job.base.model, job.method.Options(**job.recipe.options), job.base.kind)


def _draw_new_weights(base: Base) -> None:
    """Draw a new head by the recipe's seed; when it was loaded nobody knew the seed."""
    for name in base.new_weights:
        module = base.model.get_submodule(name.rpartition(".")[0])
        for part in (module, *module.parameters(recurse=False)):
            part._is_hf_initialized = False
        with torch.no_grad():
            base.model._init_weights(module)


def _laid_out(
    job: TrainingJob,
    model: Any,
    train_rows: Sequence[Encoded],
    validation: Sequence[Encoded],
    stack: ExitStack,
    listener: TrainingListener,
) -> Rows:
    """Choose how rows are laid out: packed where the model keeps documents apart, else by length."""
    spec, kind, pad_id = job.recipe.training, job.base.kind, job.base.tokenizer.pad_token_id
    batching = spec.batching
    if batching == "packed" and kind == "causal" and not _prompts(model):
        size = max(len(one.ids) for one in (*train_rows, *validation))
        length = max(size, job.recipe.data.max_length)
        one_row = stack.enter_context(by_document(model, size))
        if one_row or keeps_apart(model, length):
            packed = [pack(rows, length, spec.seed) for rows in (train_rows, validation)]
            return Rows(packed[0], packed[1], Layout(kind, pad_id, one_row, packed=True), grouped=False)
        listener.note("this model does not keep packed examples apart: batches of like length instead")
    elif batching == "packed" and kind == "causal":
        listener.note(f"{job.method.NAME} puts virtual tokens before each example: batches of like length, not packed")
    rows = [single_rows(rows) for rows in (train_rows, validation)]
    return Rows(rows[0], rows[1], Layout(kind, pad_id), grouped=batching != "plain")


def _prompts(model: Any) -> bool:
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def _prepared(
    job: TrainingJob, model: Any, rows: Rows, encoding: EncodingReport, listener: TrainingListener
) -> _Prepared:
    spec, method = job.recipe.training, job.method
    if spec.gradient_checkpointing and not getattr(method, "GRADIENT_CHECKPOINTING", True):
        raise UsageError(f"method {method.NAME} does not go with gradient_checkpointing; set it to false")
    per_epoch = steps_per_epoch(len(rows.train), spec.batch_size, spec.gradient_accumulation)
    steps = spec.max_steps or max(1, math.ceil(spec.epochs * per_epoch))
    device = next(model.parameters()).device
    optimizer, note = choose_optimizer(spec.optimizer, method.OPTIMIZER, device)
    if note:
        listener.note(note)
    rate = spec.learning_rate if spec.learning_rate is not None else method.LEARNING_RATE
    return _Prepared(job, model, rows, encoding, Settings(spec, steps, rate, optimizer), per_epoch)


def _watch(ready: _Prepared, place: WorkFolder, checkpoint: Checkpoint | None, listener: TrainingListener) -> Watch:
    spec = ready.job.recipe.training
    validate_every = spec.validate_every or ready.per_epoch
    settings = WatchSettings(
        name=ready.job.recipe.name,
        steps=ready.settings.steps,
        validate_every=validate_every if ready.rows.validation else None,
        checkpoint_every=spec.checkpoint_every or validate_every,
        patience=spec.patience,
        restore_best=spec.restore_best,
    )
    plan = Plan(
        ready.job.method, ready.settings.learning_rate, len(ready.job.data.train), ready.settings.steps, ready.encoding
    )
    watch = Watch(settings, place, CurveFile(place.curve), Clock(place.sittings, checkpoint is not None), listener)
    for line in warnings_before(plan):
        watch.warn(line)
    watch.go_on_from(checkpoint.step if checkpoint else None)
    return watch


@contextmanager
def _as_before(model: Any) -> Iterator[None]:
    """Put back what the Trainer changes in a model: it would be written into the candidate's config."""
    cache = getattr(model.config, "use_cache", None)
    try:
        yield
    finally:
        if cache is not None:
            model.config.use_cache = cache
        if getattr(model, "is_gradient_checkpointing", False):
            model.gradient_checkpointing_disable()


def _release(trainer: StageTrainer) -> None:
    """Give optimizer and gradients back: several trainings follow each other in one process."""
    trainer.model.zero_grad(set_to_none=True)
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
