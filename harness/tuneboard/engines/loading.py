"""Loads base models and attaches adapters, refusing what is unsafe or does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneboard.engines.lora import speed_up
from tuneboard.errors import AdapterError, MissingExtra, ModelError
from tuneboard.records import AdapterRef, ModelRef

#: What torch calls the data types that a ``ModelRef`` may name.
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
#: peft types that put their weights into the layers of the base; several of one type can be attached side by side.
INJECTED = ("LORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "FOURIERFT", "HRA", "LN_TUNING", "ADALORA")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model."""

    device: str = "auto"
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    allow_pickle: bool = False
    """Whether weights in pickle format, which can run code when they are read, are accepted."""
    max_length: int | None = None
    """Context length in tokens, in place of the model's own."""


def pick_device(name: str) -> torch.device:
    """Resolve a device name.

    Raises:
        ModelError: The device is not on this machine.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        if "Expected one of" in str(error):
            raise ModelError(f"device '{name}' is unknown; expected auto, cpu, cuda, cuda:1 or mps") from error
        raise ModelError(f"device '{name}' cannot be used here ({_first_line(error)}); try --device cpu") from error
    return device


def load_model(ref: ModelRef, options: LoadOptions) -> tuple[Any, Any]:
    """Load a causal LM and its tokenizer, in evaluation mode, on its device.

    Raises:
        ModelError: Missing, not a causal LM, in a refused format, or too large; says what to do.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    device = pick_device(options.device)
    common = {"revision": ref.revision or "main", "trust_remote_code": options.trust_remote_code}
    arguments: dict[str, Any] = {**common, "use_safetensors": None if options.allow_pickle else True}
    if ref.dtype != "auto" and ref.dtype not in DTYPES:
        raise ModelError(f"dtype '{ref.dtype}' is unknown; expected auto, {', '.join(DTYPES)}")
    arguments["dtype"] = DTYPES.get(ref.dtype, "auto")
    if ref.quantization:
        arguments |= quantized(ref.quantization, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(ref.id, **common)
        model, report = AutoModelForCausalLM.from_pretrained(ref.id, output_loading_info=True, **arguments)
    except MemoryError as error:
        raise ModelError(f"{ref.id} does not fit into memory; try --dtype bfloat16 or --quantization 4bit") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(explain(ref, error)) from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{ref.id} is not a whole causal LM: weight '{missing[0]}' is missing, and {len(missing) - 1} more; "
            "transformers would make them up at random"
        )
    if getattr(model, "is_quantized", False):  # as asked for, or as its config says
        avoid_packing(model)
    else:
        model = model.to(device)
    return model.eval(), tokenizer


def attach_adapter(model: Any, name: str, adapter: AdapterRef) -> Any:
    """Inject an adapter into a base model or into one that has adapters already; returns the model to use from now on.

    Raises:
        AdapterError: It does not fit: other shapes, missing modules, a type that cannot stand beside the others.
    """
    import peft

    if adapter.kind not in INJECTED:
        raise AdapterError(f"adapter {adapter.path} is of type {adapter.kind}; expected one of {', '.join(INJECTED)}")
    base = model
    try:
        with adapter_faults(adapter):
            config = peft.PeftConfig.from_pretrained(adapter.path)
            config.inference_mode = True
            if not isinstance(model, peft.PeftModel):
                model = peft.PeftModelForCausalLM(model, config, adapter_name=name)
            check_complete(adapter, name, model.load_adapter(adapter.path, name))
    except AdapterError:
        take_out(base, name)
        raise
    speed_up(model)
    model.eval()
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting: callers say what matters, and a table of what is missing is not it."""
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)


@contextmanager
def adapter_faults(adapter: AdapterRef) -> Iterator[None]:
    """Within it, what libraries raise over an adapter's files becomes one line.

    Raises:
        AdapterError: The adapter cannot be read, or has other shapes than the base.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise AdapterError(
            f"{Path(adapter.path) / 'adapter_model.safetensors'} cannot be read ({_first_line(error)}): it is cut "
            "off or damaged; copy it again, or save the adapter again"
        ) from error
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        raise AdapterError(_explain_adapter(adapter, error)) from error


def check_complete(adapter: AdapterRef, name: str, result: Any) -> None:
    """Refuse an adapter whose weights are not those that its config asks for.

    Args:
        adapter: Named in the error.
        name: Under which it was attached.
        result: What ``load_adapter`` returned.

    Raises:
        AdapterError: A weight is missing or left over.
    """
    missing = [key for key in result.missing_keys if f".{name}." in key or key.endswith(f".{name}")]
    odd = missing or list(result.unexpected_keys)
    if odd:
        raise AdapterError(
            f"adapter {adapter.path} does not match its own config or this base: weight '{odd[0]}' is "
            f"{'missing' if missing else 'left over'}; was it trained on another model?"
        )


def take_out(base: Any, name: str) -> None:
    """Undo a half-attached adapter: peft puts its layers into the base before it reads their weights."""
    import peft
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    if isinstance(base, peft.PeftModel):
        if name in base.peft_config:
            base.delete_adapter(name)
        return
    for path, module in list(base.named_modules()):
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            original = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module.original_module
            parent, _, last = path.rpartition(".")
            setattr(base.get_submodule(parent), last, original)
    if hasattr(base, "peft_config"):
        del base.peft_config


def quantized(quantization: str, device: torch.device) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to load in 4 or 8 bit through bitsandbytes.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        ModelError: The quantization is unknown.
    """
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except ImportError as error:
        raise MissingExtra("bitsandbytes", "transformers") from error
    if quantization == "4bit":
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=_compute_dtype(device)
        )
    elif quantization == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        raise ModelError(f"quantization '{quantization}' is unknown; expected 4bit or 8bit")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return {"quantization_config": config, "device_map": {"": str(device)}}


def avoid_packing(model: Any) -> None:
    """Keep bitsandbytes from packing weights whose shape its CPU kernel cannot take: it fails in the first pass."""
    for module in model.modules():
        packs = getattr(module, "support_avx512bf16_for_cpu", False)
        if packs and (module.out_features % 32 or module.in_features % 64):
            module.support_avx512bf16_for_cpu = False


def _compute_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def explain(ref: ModelRef, error: BaseException) -> str:
    """Say in one line why a model did not load, and what to do."""
    folder = Path(ref.id)
    text = str(error)
    if "trust_remote_code" in text:
        return f"{ref.id} needs code of its own, which may do anything; if you trust it, add --trust-remote-code"
    if folder.is_dir():
        pickles = [p.name for p in folder.glob("*.bin")] + [p.name for p in folder.glob("*.pt")]
        if pickles and not list(folder.glob("*.safetensors")):
            return (
                f"{ref.id} has only pickled weights ({pickles[0]}), which can run code when read; "
                "convert them to safetensors, or add --allow-pickle if you trust them"
            )
        if not (folder / "config.json").is_file():
            return f"{ref.id} is a folder without config.json; expected a Hugging Face model folder"
        if "tokenizer" in text and not any(folder.glob("tokenizer*")):
            return f"{ref.id} has no tokenizer; save the model's own there with its save_pretrained"
        if "deserializing header" in text:
            return f"the weights in {ref.id} are cut off or damaged ({_first_line(error)}); copy them again"
        return f"cannot load the model in {ref.id}: {_first_line(error)}"
    return (
        f"no model at '{ref.id}': neither a local folder nor reachable on the hub ({_first_line(error)}); "
        "check the path, or the name and the network"
    )


def _explain_adapter(adapter: AdapterRef, error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__)
    return f"adapter {adapter.path} does not fit this base model: {detail[:300]}; was it trained on another model?"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
