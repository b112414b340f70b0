"""Loads models that are not causal, by the rules of ``loading``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tuneboard.engines import loading
from tuneboard.engines.loading import LoadOptions
from tuneboard.errors import ModelError
from tuneboard.records import ModelRef


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between kinds of models where they are loaded."""

    engine: str
    """Name of their engine."""
    auto: str
    """The class of transformers that loads them."""
    wrapper: str
    """The class of peft that holds their adapters."""
    unquantized: tuple[str, ...] = ()
    """Modules that quantization leaves alone."""


def load_family(ref: ModelRef, options: LoadOptions, family: Family) -> tuple[Any, Any, tuple[str, ...]]:
    """Load a model and its tokenizer, in evaluation mode, on its device.

    Returns:
        The model, the tokenizer, and the names of weights that the files do not hold; these are random.

    Raises:
        ModelError: Missing, of another kind, in a refused format, or too large; says what to do.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    device = loading.pick_device(options.device)
    common = {"revision": ref.revision or "main", "trust_remote_code": options.trust_remote_code}
    if ref.dtype != "auto" and ref.dtype not in loading.DTYPES:
        raise ModelError(f"dtype '{ref.dtype}' is unknown; expected auto, {', '.join(loading.DTYPES)}")
    arguments: dict[str, Any] = {**common, "use_safetensors": None if options.allow_pickle else True}
    arguments["dtype"] = loading.DTYPES.get(ref.dtype, "auto")
    if ref.quantization:
        arguments |= loading.quantized(ref.quantization, device)
        arguments["quantization_config"].llm_int8_skip_modules = list(family.unquantized) or None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(ref.id, **common)
        auto = getattr(transformers, family.auto)
        # What is missing is drawn at random; whoever loads a model does not want the seed of others moved by it.
        with torch.random.fork_rng(devices=[]), loading.quiet_transformers():
            model, report = auto.from_pretrained(ref.id, output_loading_info=True, **arguments)
    except MemoryError as error:
        raise ModelError(f"{ref.id} does not fit into memory; try --dtype bfloat16 or --quantization 4bit") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(loading.explain(ref, error)) from error
    if getattr(model, "is_quantized", False):  # as asked for, or as its config says
        loading.avoid_packing(model)
    else:
        model = model.to(device)
    return model.eval(), tokenizer, tuple(sorted(report["missing_keys"]))
