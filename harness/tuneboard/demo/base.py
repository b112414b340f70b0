"""Trains the demo's base model: seeded, in about a minute on two cores; killed, it goes on from its checkpoint."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.demo.settings import TinySettings
from tuneboard.demo.tokens import make_tokenizer, training_blocks
from tuneboard.demo.world import World

if TYPE_CHECKING:
    import torch

    from tuneboard.tuning.tune import TuneListener

_CHECKPOINT = "checkpoint.pt"
#: Shares of the steps in which the learning rate rises, and in which it falls.
_WARM, _FALL = 0.1, 0.6


@dataclass(frozen=True, slots=True)
class _Training:
    model: Any
    optimizers: tuple[Any, ...]
    blocks: torch.Tensor


def make_base(folder: Path, world: World, settings: TinySettings, listener: TuneListener) -> None:
    """Train a tokenizer and a Llama on a world and save both as a Hugging Face model folder.

    Matrices learn by Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), scaled to AdamW's step as
    in Liu et al. 2025 (https://arxiv.org/abs/2502.16982); embeddings and norms by AdamW. AdamW alone learns a third
    less of the facts and hardly any addition in as many steps.

    Args:
        folder: Where it is saved; the checkpoint of a training that was killed lies there too.
        world: What it reads.
        settings: How large, how long.
        listener: Told how it goes.

    Raises:
        KeyboardInterrupt: Says how the same call goes on.
    """
    tokenizer = make_tokenizer(world, settings)
    with _seeded(world.seed):
        training = _new(tokenizer, training_blocks(world, tokenizer, settings), settings)
        try:
            _fit(training, settings, folder / _CHECKPOINT, listener)
        except KeyboardInterrupt as interrupt:
            kept = (folder / _CHECKPOINT).exists()
            goes_on = "goes on from its last checkpoint" if kept else "begins anew, since there is no checkpoint yet"
            raise KeyboardInterrupt(f"run the same command again: the base {goes_on}") from interrupt
    model = training.model.eval()
    model.generation_config.max_new_tokens = settings.context // 4
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / _CHECKPOINT).unlink(missing_ok=True)


def _new(tokenizer: Any, blocks: torch.Tensor, settings: TinySettings) -> _Training:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=8 * settings.hidden_size // 3,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden_size // 64,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        # At this size eager attention trains faster than sdpa, and twice as fast where that falls to bfloat16.
        attn_implementation="eager",
    )
    model: Any = LlamaForCausalLM(config)
    inner = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    outer = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    rate = settings.learning_rate
    optimizers = (
        torch.optim.Muon(inner, lr=rate, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.95)),
    )
    return _Training(model.train(), optimizers, blocks)


def _fit(training: _Training, settings: TinySettings, checkpoint: Path, listener: TuneListener) -> None:
    import torch

    from tuneboard.tuning.precision import has_fast_bfloat16

    steps, size = settings.steps, settings.batch
    done = _resumed(training, checkpoint)
    if done:
        listener.note(f"going on from step {done} of {steps}")
    half = has_fast_bfloat16(torch.device("cpu"))
    began = time.monotonic()
    for step in range(done + 1, steps + 1):
        batch = training.blocks[(step - 1) * size : step * size]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = training.model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        for optimizer in training.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _pace(step, steps)
            optimizer.step()
            optimizer.zero_grad()
        if step % settings.checkpoint_every == 0 and step < steps:
            _save(training, step, checkpoint)
        seconds = time.monotonic() - began
        left = seconds / (step - done) * (steps - step)
        speed = (step - done) * batch.numel() / seconds
        listener.step(step, steps, {"loss": loss.item(), "tokens_per_s": speed, "seconds_left": left})


def _pace(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step, 1 for the first."""
    return min(step / (_WARM * steps + 1), (steps - step + 1) / (_FALL * steps + 1), 1.0)


def _save(training: _Training, step: int, checkpoint: Path) -> None:
    import torch

    part = checkpoint.with_suffix(".part")
    states = [optimizer.state_dict() for optimizer in training.optimizers]
    try:
        torch.save({"step": step, "model": training.model.state_dict(), "optimizers": states}, part)
        os.replace(part, checkpoint)
    finally:
        part.unlink(missing_ok=True)  # on a full disk half of it would only take space


def _resumed(training: _Training, checkpoint: Path) -> int:
    """Put a checkpoint's state back and return its step; 0 where there is none that can be read."""
    import torch

    try:
        state = torch.load(checkpoint, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return 0
    training.model.load_state_dict(state["model"])
    for optimizer, own in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(own)
    return int(state["step"])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch within, and leave its generator outside as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
