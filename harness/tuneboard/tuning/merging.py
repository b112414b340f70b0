"""Merges an adapter into the weights of its base, and checks that the merged model answers as the adapter did.

Merging into a base in 4 bit shifted logits by 0.41; so adapters are merged into full precision, and the result is
quantized after that, if it is to be.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneboard.candidates import resolve_adapter
from tuneboard.engines.mergeable import MERGEABLE, ROUNDING
from tuneboard.errors import AdapterError, StoreError, UsageError
from tuneboard.machine import git_commit, hardware, versions
from tuneboard.records import AdapterRef, ModelRef
from tuneboard.tuning.cards import merged_card
from tuneboard.tuning.folders import ADAPTER_CONFIG, LABELS, PROVENANCE, base_of, read_provenance
from tuneboard.tuning.publishing import SCHEMA, findable, put_in_place, write_json
from tuneboard.tuning.records import ModelKind
from tuneboard.tuning.serving import serving
from tuneboard.tuning.unwritten import unwritten, write_fault

if TYPE_CHECKING:
    import torch

#: Texts on which adapter and merged model are compared.
PROBES = (
    "The capital of France is",
    "Once upon a time there was a little",
    "def add(a, b):\n    return",
    "Question: How much is 12 + 30? Answer:",
)
#: Tokens, labels or the like that are compared at each place: those that the adapter finds likeliest.
_LIKELIEST = 20
_KINDS: Mapping[str, ModelKind] = {"CAUSAL_LM": "causal", "SEQ_CLS": "classification", "SEQ_2_SEQ_LM": "seq2seq"}


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """One adapter to merge."""

    adapter: Path
    """Its folder."""
    out: Path
    """Folder of the merged model; must not be there yet."""
    base: str | None = None
    """Folder or hub id; None takes what the adapter names."""
    quantize: str | None = None
    """``4bit``, ``8bit`` or None."""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """What came out."""

    folder: Path
    base: ModelRef
    kind: ModelKind
    difference: float
    """Largest difference of a likely log-probability between adapter and merged weights."""
    quantized_difference: float | None
    """The same for the quantized weights, which round on purpose."""


def merge(request: MergeRequest, note: Callable[[str], None]) -> Merged:
    """Write the merged weights of an adapter as a model of its own, with tokenizer and provenance.

    Args:
        request: What to merge, and where to.
        note: Called with lines of progress.

    Raises:
        UsageError: It cannot be merged: not an adapter, or of a kind that adds no weights to the base's.
        AdapterError: It is not of this base, or the merged weights answer otherwise.
        ModelError: The base cannot be loaded.
        StoreError: The folder is there, or cannot be written.
    """
    adapter = _mergeable(request.adapter)
    if request.out.exists():
        raise StoreError(f"{request.out} is there already; give another folder with --out, or remove it")
    base, kind = base_of(request.adapter, request.base), _kind(request.adapter)
    partial = request.out.with_name(f".{request.out.name}.merging")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        merged = _merge(request, (base, adapter, kind), partial, note)
        put_in_place(partial, request.out)
    except Exception as error:
        reason = write_fault(error)
        if reason is None:
            raise
        shutil.rmtree(partial, ignore_errors=True)
        then = "run the same command again, or give another folder with --out"
        raise unwritten(f"the merged model to {request.out}", request.out, reason, then) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return merged


def _mergeable(folder: Path) -> AdapterRef:
    if (folder / "config.json").is_file() and not (folder / ADAPTER_CONFIG).is_file():
        raise UsageError(f"{folder} is a full checkpoint already: nothing to merge; evaluate it as --candidate")
    adapter = resolve_adapter(str(folder))
    if adapter.kind not in MERGEABLE:
        name = adapter.kind.lower().replace("_", " ")
        raise UsageError(
            f"{folder} is a {name} adapter, which adds inputs or layers and changes no weights: it cannot be "
            "merged; serve it with the transformers engine"
        )
    return adapter


def _kind(folder: Path) -> ModelKind:
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return _KINDS.get(str(config.get("task_type")), "causal")


def _labels(folder: Path) -> list[str]:
    try:
        return [str(one) for one in json.loads((folder / LABELS).read_text(encoding="utf-8"))["labels"]]
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f'{folder} is a classifier without {LABELS}; write {{"labels": [...]}} in the order of its head, beside it'
        ) from None


def _merge(
    request: MergeRequest, of: tuple[ModelRef, AdapterRef, ModelKind], partial: Path, note: Callable[[str], None]
) -> Merged:
    base, adapter, kind = of
    labels = _labels(request.adapter) if kind == "classification" else []
    note(f"merging {request.adapter} into {base.id}")
    wanted = _write_merged(base, adapter, (kind, labels), partial)
    difference = _check(wanted, _probe(ModelRef(str(partial), dtype=base.dtype), kind, labels), base.dtype, request)
    note(f"merged weights and adapter agree: the largest difference of a log-probability is {difference:.2g}")
    shifted = None
    if request.quantize:
        whole = ModelRef(str(partial), dtype=base.dtype, quantization=request.quantize)
        shifted = _quantize(partial, whole, wanted, kind)
        note(f"quantized to {request.quantize}: the largest difference of a log-probability is {shifted:.2g}")
    merged = Merged(request.out, base, kind, difference, shifted)
    provenance = _provenance(request, adapter, merged, labels)
    (partial / "README.md").write_text(merged_card(provenance), encoding="utf-8")
    write_json(partial / PROVENANCE, provenance)
    return merged


def _write_merged(
    base: ModelRef, adapter: AdapterRef, of: tuple[ModelKind, list[str]], folder: Path
) -> list[torch.Tensor]:
    """Save base plus adapter; returns what the adapter answered to the probes before it was merged."""
    import peft

    from tuneboard.engines.loading import adapter_faults
    from tuneboard.tuning.bases import load_base

    loaded = load_base(base, *of)
    with adapter_faults(adapter):
        model = peft.PeftModel.from_pretrained(loaded.model, adapter.path)
    model.eval()
    wanted = _answers(model, loaded.tokenizer, of[0])
    merged = model.merge_and_unload()
    merged.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return wanted


def _quantize(folder: Path, ref: ModelRef, wanted: list[torch.Tensor], kind: ModelKind) -> float:
    """Replace the merged weights by quantized ones; returns how far their answers are from the adapter's."""
    from tuneboard.tuning.bases import load_base

    labels = _labels_of_config(folder) if kind == "classification" else []
    loaded = load_base(ref, kind, labels)
    got = _answers(loaded.model.eval(), loaded.tokenizer, kind)
    smaller = folder.with_name(f"{folder.name}-quantized")
    shutil.rmtree(smaller, ignore_errors=True)
    try:
        loaded.model.save_pretrained(smaller)
        loaded.tokenizer.save_pretrained(smaller)
        del loaded
        gc.collect()
        shutil.rmtree(folder)
        smaller.rename(folder)
    finally:
        shutil.rmtree(smaller, ignore_errors=True)
    return _difference(wanted, got)


def _labels_of_config(folder: Path) -> list[str]:
    names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    return [names[key] for key in sorted(names, key=int)]


def _probe(ref: ModelRef, kind: ModelKind, labels: list[str]) -> list[torch.Tensor]:
    """Return what the model as saved answers: ties between weights show only when it is read again."""
    from tuneboard.tuning.bases import load_base

    gc.collect()
    loaded = load_base(ref, kind, labels)
    if loaded.new_weights:
        raise AdapterError(f"the merged model lacks its weight '{loaded.new_weights[0]}'; the adapter brings no head")
    return _answers(loaded.model.eval(), loaded.tokenizer, kind)


def _answers(model: Any, tokenizer: Any, kind: ModelKind) -> list[torch.Tensor]:
    """Return log-probabilities at every place of each probe, float32, shape [places, classes]."""
    import torch

    answers = []
    with torch.no_grad():
        for text in PROBES:
            inputs = dict(tokenizer(text, return_tensors="pt").to(model.device))
            inputs.pop("token_type_ids", None)
            if kind == "seq2seq":
                inputs["decoder_input_ids"] = inputs["input_ids"]
            logits = model(**inputs).logits[0].float()
            answers.append(torch.log_softmax(logits.reshape(-1, logits.shape[-1]), dim=-1).cpu())
    return answers


def _check(wanted: list[torch.Tensor], got: list[torch.Tensor], dtype: str, request: MergeRequest) -> float:
    difference, most = _difference(wanted, got), ROUNDING.get(dtype, ROUNDING["bfloat16"])
    if not difference <= most:
        raise AdapterError(
            f"merged, {request.adapter} would answer otherwise: log-probabilities of likely tokens differ by up to "
            f"{difference:.2g} (rounding in {dtype} explains {most:g}); serve it as an adapter"
        )
    return difference


def _difference(wanted: list[torch.Tensor], got: list[torch.Tensor]) -> float:
    largest = 0.0
    for one, other in zip(wanted, got, strict=True):
        likely, places = one.topk(min(_LIKELIEST, one.shape[-1]), dim=-1)
        largest = max(largest, float((likely - other.gather(-1, places)).abs().max()))
    return largest


def _provenance(request: MergeRequest, adapter: AdapterRef, merged: Merged, labels: list[str]) -> dict[str, Any]:
    made = read_provenance(request.adapter) or {}
    return {
        "made_by": "tuneboard",
        "schema": SCHEMA,
        "name": request.out.name,
        "command": request.command,
        "git_commit": git_commit(Path.cwd()),
        "versions": versions(),
        "hardware": hardware(),
        "kind": merged.kind,
        "base": {**asdict(merged.base), "id": findable(merged.base.id)},
        "labels": labels,
        "pair": made.get("pair", False),
        "merged": {
            "adapter": made.get("name") or request.adapter.resolve().name,
            "adapter_sha256": adapter.sha256,
            "adapter_type": adapter.kind,
            "difference": merged.difference,
            "quantization": request.quantize,
            "quantized_difference": merged.quantized_difference,
        },
        "serving": [asdict(one) for one in serving(None, merged.kind)],
        "trained_as": made or None,
    }
