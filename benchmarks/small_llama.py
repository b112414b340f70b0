"""Makes the models that the benchmarks run on: a random 29 M-parameter Llama, its tokenizer and LoRA adapters."""

from __future__ import annotations

from pathlib import Path

#: Text columns that the tokenizer is trained on.
_TEXTS = (("openai/gsm8k/main/train.parquet", "question"), ("Rowan/hellaswag/default/validation.parquet", "ctx"))
VOCABULARY = 8192
#: Holds the longest of MMLU's 5-shot prompts, as current models do.
CONTEXT = 4096


def make_model(folder: Path, mirror: Path) -> Path:
    """Make the model in ``folder`` unless it is there; returns its path."""
    target = folder / f"llama-29m-{CONTEXT}"
    if (target / "model.safetensors").is_file():
        return target
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        # Wide enough that prompts matter: at the usual 0.02 every text scores alike.
        initializer_range=0.05,
    )
    _tokenizer(mirror).save_pretrained(target)
    LlamaForCausalLM(config).save_pretrained(target)
    return target


def make_adapters(folder: Path, model: Path, count: int) -> list[Path]:
    """Make random rank-8 LoRA adapters on all linear layers; returns their paths."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    paths = []
    for number in range(count):
        path = folder / f"adapter-{number}"
        paths.append(path)
        if (path / "adapter_model.safetensors").is_file():
            continue
        torch.manual_seed(number + 1)
        base = AutoModelForCausalLM.from_pretrained(model)
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(path)
    return paths


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
