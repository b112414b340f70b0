"""Makes the models that the benchmarks run on: random Llamas, their tokenizer, LoRA adapters and merged checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Text columns that the tokenizer is trained on.
_TEXTS = (("openai/gsm8k/main/train.parquet", "question"), ("Rowan/hellaswag/default/validation.parquet", "ctx"))
VOCABULARY = 8192
#: Holds the longest of MMLU's 5-shot prompts, as current models do.
CONTEXT = 4096
#: Sizes of models. Weights of small ones are wide enough that prompts matter: at 0.02 every text scores alike.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    # Heads of 32 are the smallest that vLLM has CPU kernels for.
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.1,
    },
    "29m": {
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
        "initializer_range": 0.05,
    },
    # Llama 3.1 8B, vocabulary included.
    "8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
}


def make_model(folder: Path, mirror: Path, shape: str = "29m", dtype: str = "float32") -> Path:
    """Make a model in ``folder`` unless it is there; returns its path."""
    target = folder / f"llama-{shape}-{CONTEXT}{'' if dtype == 'float32' else f'-{dtype}'}"
    if (target / "config.json").is_file() and any(target.glob("*.safetensors")):
        return target
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    given = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "bos_token_id": 0, "eos_token_id": 1}
    config = LlamaConfig(**(given | dict(SHAPES[shape])), dtype=dtype)
    _tokenizer(mirror).save_pretrained(target)
    with torch.device("cuda" if torch.cuda.is_available() and shape == "8b" else "cpu"):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(target)
    return target


def make_adapters(folder: Path, model: Path, count: int) -> list[Path]:
    """Make random rank-8 LoRA adapters on all linear layers; returns their paths."""
    paths = [folder / f"adapter-{number}" for number in range(count)]
    if all((path / "adapter_model.safetensors").is_file() for path in paths):
        return paths
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    for number, path in enumerate(paths):
        torch.manual_seed(number + 1)
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        adapted = get_peft_model(base, config)
        adapted.save_pretrained(path)
        base = adapted.unload()
    return paths


def make_merged(folder: Path, model: Path, adapters: Sequence[Path]) -> list[Path]:
    """Merge each adapter into a copy of the model; returns their paths."""
    paths = [folder / f"merged-{number}" for number in range(len(adapters))]
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for adapter, path in zip(adapters, paths, strict=True):
        if not (path / "config.json").is_file():
            base = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
            PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(path)
            AutoTokenizer.from_pretrained(model).save_pretrained(path)
    return paths


def linear_weights(model: Path) -> int:
    """Count the weights of a Llama's linear layers, its LM head apart."""
    config = json.loads((model / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    key_values = 2 * hidden * (hidden // heads) * config["num_key_value_heads"]
    layer = 2 * hidden * hidden + key_values + 3 * hidden * config["intermediate_size"]
    return int(layer * config["num_hidden_layers"])


def _tokenizer(mirror: Path):  # type: ignore[no-untyped-def]
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [text for file, column in _TEXTS for text in pq.read_table(mirror / file)[column].to_pylist()[:4000]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
