"""Which kind of model a candidate is, told by its config files alone; imports no torch.

The kind decides which engine answers for it: next tokens of a causal LM, labels of a classification head, texts of an
encoder and a decoder. A bare encoder answers nothing by itself; adapters bring it a head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tuneboard.engines.protocol import Engine, Notice
from tuneboard.engines.served import is_served
from tuneboard.errors import AdapterError, ModelError
from tuneboard.records import AdapterRef, Candidate, ModelRef

if TYPE_CHECKING:
    from tuneboard.engines.loading import LoadOptions
    from tuneboard.engines.vllm_settings import VllmSettings

Kind: TypeAlias = Literal["causal", "classification", "seq2seq", "encoder"]
#: Kinds that have an engine, but for causal models.
OTHER_KINDS: tuple[Kind, ...] = ("classification", "seq2seq")

#: Model types that read a text as a whole, both ways; their configs do not say so.
# fmt: off
ENCODERS = frozenset((
    "albert", "bert", "bert-generation", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta",
    "deberta-v2", "distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "funnel", "ibert",
    "layoutlm", "longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "neobert",
    "nomic_bert", "nystromformer", "qdqbert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "splinter", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "yoso",
))
# fmt: on
#: Model types with a decoder behind their encoder, for configs that leave ``is_encoder_decoder`` out.
# fmt: off
_ENCODER_DECODERS = frozenset((
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "fsmt", "led", "longt5",
    "m2m_100", "marian", "mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet",
    "switch_transformers", "t5", "t5gemma", "umt5", "xlm-prophetnet",
))
# fmt: on
_OF_TASK: Mapping[str, Kind] = {"CAUSAL_LM": "causal", "SEQ_CLS": "classification", "SEQ_2_SEQ_LM": "seq2seq"}
#: What adapters can make of a base.
_OVER: Mapping[Kind, tuple[Kind, ...]] = {
    "causal": ("causal", "classification"),
    "encoder": ("classification",),
    "classification": ("classification",),
    "seq2seq": ("seq2seq", "classification"),
}
_WORDS: Mapping[Kind, str] = {
    "causal": "a causal LM",
    "encoder": "an encoder",
    "classification": "a classification model",
    "seq2seq": "an encoder-decoder model",
}


def model_kind(config: Mapping[str, Any]) -> Kind:
    """Tell the kind of a model by its ``config.json``.

    Args:
        config: The file's content; the names in ``architectures`` come before everything else. What is not known to be
            anything else is taken for a causal LM.
    """
    names = [str(name) for name in config.get("architectures") or ()]
    model_type = str(config.get("model_type", ""))
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "classification"
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return "causal"
    if any(name.endswith(("EncoderModel", "ForMaskedLM")) for name in names):
        return "encoder"
    if config.get("is_encoder_decoder", model_type in _ENCODER_DECODERS):
        return "seq2seq"
    return "encoder" if model_type in ENCODERS and not config.get("is_decoder") else "causal"


def adapter_kind(adapter: Mapping[str, Any], base: Kind) -> Kind:
    """Tell what a base becomes with an adapter, by the ``task_type`` of its ``adapter_config.json``.

    Args:
        adapter: The file's content; without a task type the base stays what it is, and an encoder is for labels.
        base: Kind of the base.
    """
    return _OF_TASK.get(str(adapter.get("task_type")), "classification" if base == "encoder" else base)


def candidate_kind(candidate: Candidate) -> Kind:
    """Tell the kind of a candidate by its files; a config that cannot be read counts as that of a causal LM.

    What a server answers for is causal, whatever files lie under its name here.

    Raises:
        AdapterError: The adapter is for another kind of model than its base.
    """
    if is_served(candidate.model):
        return "causal"
    base = model_kind(_model_config(candidate.model))
    if candidate.adapter is None:
        return base
    kind = adapter_kind(_adapter_config(candidate.adapter), base)
    if kind not in _OVER[base]:
        raise AdapterError(
            f"adapter {candidate.adapter.path} makes {_WORDS[kind]} of its base, and {candidate.model.id} is "
            f"{_WORDS[base]}; expected an adapter that was trained on this base"
        )
    return kind


def load_engine(
    kind: Kind, ref: ModelRef, options: LoadOptions, notice: Notice, vllm: VllmSettings | None = None
) -> Engine:
    """Load the engine that answers for one kind of model.

    Args:
        kind: Only causal models run in vLLM.
        ref: The model.
        options: Device and what is trusted.
        notice: Told what is worth a line.
        vllm: Settings of the vLLM engine; None: causal models run in the transformers engine too.

    Raises:
        ModelError: The model cannot be loaded.
    """
    if kind == "classification":
        from tuneboard.engines.classifier import ClassifierEngine

        return ClassifierEngine(ref, options, notice)
    if kind == "seq2seq":
        from tuneboard.engines.seq2seq import Seq2SeqEngine

        return Seq2SeqEngine(ref, options, notice)
    if kind == "encoder":
        raise ModelError(f"{ref.id} is an encoder without a head: it answers nothing; fine-tune it on labels first")
    if vllm is not None:
        from tuneboard.engines.vllm import VllmEngine

        return VllmEngine(ref, options, notice, vllm)
    from tuneboard.engines.transformers import TransformersEngine

    return TransformersEngine(ref, options, notice)


def _model_config(ref: ModelRef) -> dict[str, Any]:
    folder = Path(ref.id)
    if folder.is_dir():
        return _read(folder / "config.json")
    try:
        from huggingface_hub import try_to_load_from_cache

        # Resolving the candidate has put it there.
        cached = try_to_load_from_cache(ref.id, "config.json", revision=ref.revision)
    except (ImportError, OSError, ValueError):
        return {}
    return _read(Path(cached)) if isinstance(cached, str) else {}


def _adapter_config(adapter: AdapterRef) -> dict[str, Any]:
    return _read(Path(adapter.path) / "adapter_config.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
