"""Tells what kind of model a recipe trains, and loads its base with what training needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tuneboard.engines import loading
from tuneboard.errors import ModelError, UsageError
from tuneboard.records import ModelRef
from tuneboard.tuning.methods import Method
from tuneboard.tuning.methods._counting import parameter_counts
from tuneboard.tuning.methods._structure import head_paths
from tuneboard.tuning.records import ModelKind, Recipe, RowFormat

#: Names that tokenizers give to a token for padding, in the order in which they are looked for.
_PADDING = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>", "[UNK]")


@dataclass(frozen=True, slots=True)
class Base:
    """A model to fine-tune, as loaded."""

    model: Any
    tokenizer: Any
    """With a padding token."""
    kind: ModelKind
    total_parameters: int
    new_weights: tuple[str, ...] = ()
    """Names of weights that the base's files do not hold: the head of a classifier. Training draws them by its seed."""


def kind_of(recipe: Recipe, format: RowFormat) -> ModelKind:
    """Return what a recipe trains: what it says, else by its base and its data.

    Labels make a classifier, except of an encoder-decoder, which learns to write them.

    Raises:
        ModelError: The base has no config that can be read.
        UsageError: The data, or the kind that the recipe names, do not fit the base.
    """
    config = read_config(recipe.base)
    encoder_only = _is_encoder(config)
    if recipe.kind != "auto":
        wanted: ModelKind = recipe.kind
    elif config.is_encoder_decoder:
        wanted = "seq2seq"
    else:
        wanted = "classification" if format == "label" else "causal"
    name = f"{recipe.base.id} ({config.model_type})"
    if wanted == "seq2seq" and not config.is_encoder_decoder:
        raise UsageError(f"{name} has no encoder and decoder; expected a T5-like base, or kind: causal")
    if wanted == "causal" and config.is_encoder_decoder:
        raise UsageError(f"{name} is an encoder-decoder; expected kind: seq2seq")
    if wanted == "causal" and encoder_only:
        raise UsageError(f"{name} is an encoder and cannot write text; expected rows of text + label, or a causal base")
    if wanted == "classification" and format != "label":
        raise UsageError(f"a classifier learns labels and the data are in the format '{format}'; expected text + label")
    return wanted


def read_config(ref: ModelRef) -> Any:
    """Return a base's config; runs no code of the model's.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(ref.id, revision=ref.revision or "main", trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(loading.explain(ref, error)) from error


def load_base(
    ref: ModelRef,
    kind: ModelKind,
    labels: Sequence[str] = (),
    quantization: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Base:
    """Load a base to train, by the engines' rules: safetensors only, no code of the model's own.

    Args:
        ref: Which model, in which data type and quantization.
        kind: What it is trained for.
        labels: Names of the classes, in the order of their numbers; for classification.
        quantization: Settings of ``BitsAndBytesConfig`` that win over the engines' own.
        device: As ``LoadOptions.device``.

    Raises:
        ModelError: Missing, of another kind, in a refused format, or too large.
        UsageError: Fewer than two classes.
    """
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()  # a new head is reported at length
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if kind == "classification" and len(labels) < 2:
        raise UsageError(f"the data have {len(labels)} label(s); a classifier needs two or more, check columns.label")
    extra: dict[str, Any] = {}
    if kind == "classification":
        names = dict(enumerate(labels))
        extra = {
            "num_labels": len(labels),
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
            "problem_type": "single_label_classification",
            "ignore_mismatched_sizes": True,  # a head for other classes gives way to a new one
        }
    arguments = _arguments(ref, quantization, device)
    if kind == "classification" and ref.quantization:
        # The head is new and trained: nothing that 4 bit could hold.
        heads = head_paths(weightless(read_config(ref), kind), kind)
        arguments["quantization_config"].llm_int8_skip_modules = list(heads)
    model, tokenizer, new = _load(ref, kind, extra | arguments)
    if kind == "classification" or tokenizer.pad_token_id is None:
        _pad_safely(model, tokenizer, kind)
    return Base(model, tokenizer, kind, parameter_counts(model)[1], new)


def quantization_of(recipe: Recipe, method: Method) -> dict[str, Any] | None:
    """Return how a method wants its base quantized, for ``load_base``; None leaves it to the engines' rules."""
    settings = getattr(method, "quantization", None)
    return dict(settings(method.Options(**recipe.options))) if settings else None


def weightless(config: Any, kind: ModelKind) -> Any:
    """Return a model without memory for its weights, on torch's ``meta`` device.

    Raises:
        ModelError: No model of that kind can be made of the config.
    """
    try:
        with torch.device("meta"):
            return _maker(kind).from_config(config)
    except (ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(f"no {kind} model can be made of a {config.model_type} config ({error})") from error


def _maker(kind: ModelKind) -> Any:
    import transformers as hf

    makers = {
        "causal": hf.AutoModelForCausalLM,
        "classification": hf.AutoModelForSequenceClassification,
        "seq2seq": hf.AutoModelForSeq2SeqLM,
    }
    return makers[kind]


def _arguments(ref: ModelRef, quantization: Mapping[str, Any] | None, device_name: str) -> dict[str, Any]:
    device = loading.pick_device(device_name)
    if ref.dtype != "auto" and ref.dtype not in loading.DTYPES:
        raise ModelError(f"dtype '{ref.dtype}' is unknown; expected auto, {', '.join(loading.DTYPES)}")
    arguments: dict[str, Any] = {"dtype": loading.DTYPES.get(ref.dtype, "auto")}
    if not ref.quantization:
        return arguments | {"device": device}
    arguments |= loading.quantized(ref.quantization, device)
    for name, value in (quantization or {}).items():
        setattr(arguments["quantization_config"], name, value)
    return arguments


def _load(ref: ModelRef, kind: ModelKind, arguments: dict[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
    import transformers as hf
    from safetensors import SafetensorError

    common = {"revision": ref.revision or "main", "trust_remote_code": False}
    device = arguments.pop("device", None)
    try:
        tokenizer = hf.AutoTokenizer.from_pretrained(ref.id, **common)
        with torch.random.fork_rng(devices=[]):
            model, report = _maker(kind).from_pretrained(
                ref.id, output_loading_info=True, use_safetensors=True, **common, **arguments
            )
    except MemoryError as error:
        raise ModelError(f"{ref.id} does not fit into memory; try dtype: bfloat16 or method: qlora") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(loading.explain(ref, error)) from error
    fresh = {*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])}
    _check_fresh(ref, kind, model, sorted(fresh))
    if getattr(model, "is_quantized", False):
        loading.avoid_packing(model)
    else:
        model = model.to(device)
    return model, tokenizer, tuple(sorted(fresh))


def _check_fresh(ref: ModelRef, kind: ModelKind, model: Any, fresh: list[str]) -> None:
    """Refuse a base that lacks more than the head that training makes anew."""
    stem = f"{model.base_model_prefix}."
    lacking = [name for name in fresh if kind != "classification" or (name.startswith(stem) and ".pooler." not in name)]
    if lacking:
        raise ModelError(
            f"{ref.id} is not a whole base for {kind}: weight '{lacking[0]}' is missing, and {len(lacking) - 1} more; "
            "transformers would make them up at random"
        )


def _is_encoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    writes = any("CausalLM" in name or name.endswith("LMHeadModel") for name in config.architectures or ())
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return masked and not writes and not config.is_encoder_decoder and not getattr(config, "is_decoder", False)


def _pad_safely(model: Any, tokenizer: Any, kind: ModelKind) -> None:
    """Give the tokenizer a padding token that it already has, so that no embedding is added.

    EOS is the last resort: labels and attention masks are made from lengths here, never by comparing tokens with it.
    """
    if tokenizer.pad_token_id is None:
        vocabulary = tokenizer.get_vocab()
        known = next((name for name in _PADDING if name in vocabulary), None)
        tokenizer.pad_token = known or tokenizer.eos_token or next(iter(vocabulary))
    if kind == "classification":
        # A causal model's head reads the last token that is not padding, told by this.
        model.config.pad_token_id = tokenizer.pad_token_id
        text_config = getattr(model.config, "text_config", None)
        if text_config is not None:
            text_config.pad_token_id = tokenizer.pad_token_id
