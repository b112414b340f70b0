"""Estimates what a training needs before anything is loaded, and says what would fit where it does not.

    weights        as stored; trained ones, and in float32 training all, in 4 bytes; about half a byte in 4 bit
    gradients      4 bytes of each trained weight
    optimizer      8 bytes of each trained weight (AdamW), 2 in 8 bit
    activations    what one batch keeps for the backward pass: rough, and the larger part of long rows

The model is built without memory for its weights (on torch's ``meta`` device), so that sizes are counted, not guessed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import torch

from tuneboard.engines.loading import pick_device
from tuneboard.engines.tokens import context_length
from tuneboard.errors import ModelError, TuneboardError
from tuneboard.tuning.bases import read_config, weightless
from tuneboard.tuning.methods import Method, find_method
from tuneboard.tuning.methods._counting import parameter_counts
from tuneboard.tuning.precision import choose_optimizer, choose_precision
from tuneboard.tuning.records import ModelKind, Recipe

_GIB = 2**30
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
#: A 4-bit weight with the scale of its block of 64.
_QUANTIZED = {"4bit": 0.5 + 4 / 64, "8bit": 1.0}
#: Rows of fewer tokens are not advised: little could be learnt from them.
_SHORTEST = 64


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Sizes in GiB."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    free: float
    """On the device, now."""

    @property
    def total(self) -> float:
        """All that the training needs."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the estimate is made from."""

    total: int
    trained: int
    new: int
    """Of these, what the base does not have."""
    in_linears: int
    """Parameters of linear layers, the head apart."""
    per_token: int
    """Numbers that a token leaves behind in all layers for the backward pass."""
    hidden: int
    layers: int
    vocabulary: int
    stored: float
    """Bytes of a weight."""
    float32: bool
    """Whether the training is in float32."""
    tokens: int
    """Of one example."""
    batch: int
    accumulation: int
    """Batches of one optimizer step."""
    quantization: str | None
    eight_bit: bool
    checkpointing: bool


#: Settings to change, as a recipe names them, and the training that is then left.
_Way: TypeAlias = tuple[str, _Shape]


def check_memory(recipe: Recipe, method: Method, kind: ModelKind) -> MemoryEstimate:
    """Estimate a training's memory, and refuse one that cannot fit.

    Raises:
        ModelError: It needs more than the device has free; says what would fit. Or the base has no config.
        UsageError: The method's options do not fit the model.
    """
    shape = _shape(recipe, method, kind)
    free = free_memory(pick_device("auto"))
    estimate = _estimate(shape, free)
    if estimate.total <= free:
        return estimate
    ways = _ways_out(recipe, method, kind, shape, free)
    advice = f"what would fit: {'; '.join(ways)}" if ways else "a smaller base, or a larger machine, is needed"
    raise ModelError(
        f"'{recipe.name}' needs about {estimate.total:.1f} GiB (weights {estimate.weights:.1f}, gradients "
        f"{estimate.gradients:.1f}, optimizer {estimate.optimizer:.1f}, activations {estimate.activations:.1f}) and "
        f"{free:.1f} GiB are free; {advice}"
    )


def free_memory(device: torch.device) -> float:
    """Return the GiB that are free on a device: of a CPU what the machine and the process's control group allow."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / _GIB
    if device.type == "mps":
        return (torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()) / _GIB
    limits = [_available(), _group_limit()]
    return min((limit for limit in limits if limit is not None), default=float("inf")) / _GIB


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None


def _group_limit() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        most = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        cache = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return most - used + int(cache.get("inactive_file", 0))
    except (OSError, ValueError):
        return None


def _shape(recipe: Recipe, method: Method, kind: ModelKind) -> _Shape:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # speaks of a package it does without
    ref, spec = recipe.base, recipe.training
    config = read_config(ref)
    model = weightless(config, kind)
    text = getattr(config, "text_config", None) or config
    hidden, layers = int(getattr(text, "hidden_size", 0)), _layers(text)
    head = model.get_output_embeddings() if kind != "classification" else None
    inner = [part for part in model.modules() if _is_linear(part) and part is not head]
    sizes = [(part.weight.shape[0], part.weight.shape[1]) for part in inner]
    total = parameter_counts(model)[1]
    trained, new = _trained(model, recipe, method, kind)
    dtype = (
        ref.dtype if ref.dtype in _BYTES else str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    )
    device = pick_device("auto")
    optimizer, _ = choose_optimizer(spec.optimizer, method.OPTIMIZER, device)
    return _Shape(
        total=total,
        trained=trained,
        new=new,
        in_linears=sum(a * b for a, b in sizes),
        # Each linear layer keeps its input and hands on its output; norms and residuals keep four more per layer.
        per_token=sum(a + b for a, b in sizes) // 2 + 4 * hidden * layers,
        hidden=hidden,
        layers=layers,
        vocabulary=int(getattr(text, "vocab_size", 0)) if kind != "classification" else 0,
        stored=_BYTES.get(dtype, 4.0),
        float32=choose_precision(spec, device, total) == "float32",
        tokens=min(recipe.data.max_length, context_length(config, None)),
        batch=spec.batch_size,
        accumulation=spec.gradient_accumulation,
        quantization=ref.quantization,
        eight_bit="8bit" in optimizer,
        checkpointing=spec.gradient_checkpointing,
    )


def _trained(model: Any, recipe: Recipe, method: Method, kind: ModelKind) -> tuple[int, int]:
    """Count what the method trains, and what of it is new, by asking it; failing that, by an adapter's usual share."""
    total = parameter_counts(model)[1]
    if recipe.base.quantization == "4bit":
        model.is_loaded_in_4bit = True
    try:
        trained, after = parameter_counts(method.prepare(model, method.Options(**recipe.options), kind))
        return trained, after - total
    except TuneboardError:
        raise
    except Exception:  # some initializations need weights to look at
        return total // 50, total // 50


def _estimate(shape: _Shape, free: float) -> MemoryEstimate:
    frozen = shape.total - (shape.trained - min(shape.new, shape.trained))
    stored = 4.0 if shape.float32 and not shape.quantization else shape.stored
    packed = min(shape.in_linears, frozen) if shape.quantization else 0
    weights = packed * _QUANTIZED.get(shape.quantization or "", 0) + (frozen - packed) * stored + 4 * shape.trained
    number = 4.0 if shape.float32 else 2.5  # under autocast norms and residuals stay in float32
    logits = 3 * 4 * shape.vocabulary  # logits, their softmax, its gradient
    return MemoryEstimate(
        weights=weights / _GIB,
        gradients=4 * shape.trained / _GIB,
        optimizer=(2 if shape.eight_bit else 8) * shape.trained / _GIB,
        activations=_tokens(shape) * (_kept(shape) * number + logits) / _GIB,
        free=free,
    )


def _tokens(shape: _Shape) -> int:
    """Return the tokens of one pass."""
    return shape.tokens * shape.batch


def _kept(shape: _Shape) -> int:
    """Return the numbers that a token leaves behind for the backward pass: all, or of one layer at a time."""
    if shape.checkpointing:
        return shape.hidden * shape.layers + shape.per_token // max(1, shape.layers)
    return shape.per_token


def _ways_out(recipe: Recipe, method: Method, kind: ModelKind, shape: _Shape, free: float) -> list[str]:
    """Return changes of the recipe that would fit, of each sort the least one."""

    def least(ways: Iterable[_Way]) -> list[_Way]:
        return list(islice((way for way in ways if _estimate(way[1], free).total <= free), 1))

    smaller, recomputing, shorter = _lighter(shape, method)
    found = least(smaller)
    # What costs more than smaller batches must let a pass be larger than they do.
    found += [way for way in least(recomputing) if not found or _tokens(way[1]) > _tokens(found[0][1])]
    found = found or least(shorter)
    largest = max((_tokens(left) for _, left in found), default=0)
    for other, changed in _other_methods(recipe, kind):
        if _estimate(changed, free).total < _estimate(shape, free).total:
            name = f"method: {other.NAME}"
            more = ((f"{name}, {text}", left) for text, left in chain(*_lighter(changed, other)))
            found += [way for way in least([(name, changed), *more]) if _tokens(way[1]) > largest]
    return [text for text, _ in found]


def _lighter(shape: _Shape, method: Method) -> tuple[list[_Way], list[_Way], list[_Way]]:
    """Return smaller batches, activations that are computed twice, and, after all that, shorter rows; least first."""
    smaller = _smaller_batches(shape)
    recomputing: list[_Way] = []
    once = replace(shape, checkpointing=True)
    if getattr(method, "GRADIENT_CHECKPOINTING", True) and _kept(once) < _kept(shape):
        setting = "training.gradient_checkpointing: true"
        recomputing = [(setting, once), *((f"{setting}, {text}", left) for text, left in _smaller_batches(once))]
    text, lightest = [("", shape), *smaller, *recomputing][-1]
    shorter: list[_Way] = []
    while (tokens := shape.tokens >> len(shorter) + 1) >= _SHORTEST:
        setting = f"data.max_length: {tokens}"
        shorter.append((f"{text}, {setting}" if text else setting, replace(lightest, tokens=tokens)))
    return smaller, recomputing, shorter


def _smaller_batches(shape: _Shape) -> list[_Way]:
    """Return halved batches, with as many more of them in each step."""
    ways = []
    for halvings in range(1, shape.batch.bit_length()):
        batch = shape.batch >> halvings
        accumulation = math.ceil(shape.batch * shape.accumulation / batch)
        text = f"training.batch_size: {batch}, training.gradient_accumulation: {accumulation}"
        ways.append((text, replace(shape, batch=batch, accumulation=accumulation)))
    return ways


def _other_methods(recipe: Recipe, kind: ModelKind) -> Iterator[tuple[Method, _Shape]]:
    """Yield the methods that need little memory, with what they would make of the recipe."""
    for name in ("lora", "qlora"):
        other = find_method(name)
        if name == recipe.method or kind not in other.KINDS or (other.QUANTIZATION and not find_spec("bitsandbytes")):
            continue
        base = replace(recipe.base, quantization=other.QUANTIZATION)
        with suppress(TuneboardError):  # it does not fit the model
            changed = replace(recipe, method=name, options=asdict(other.Options()), base=base)
            yield other, _shape(changed, other, kind)


def _layers(config: Any) -> int:
    names = ("num_hidden_layers", "n_layer", "num_layers")
    layers = next((int(value) for name in names if (value := getattr(config, name, None))), 1)
    return layers + int(getattr(config, "num_decoder_layers", 0) or 0)


def _is_linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
