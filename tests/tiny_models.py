"""Small random models, tokenizers and adapters that tests make on the spot; a pytest plugin.

Weights are drawn wide enough that attention matters: a wrong mask moves a log-probability by far more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TEXTS = (
    "Once upon a time there was a little girl who liked to play in the garden with her red ball.",
    "Question: What is the capital of France? Answer: Paris. Question: How much is 12 + 30? Answer: 42.",
    "The man took the bread, cut it into slices and put butter on them; then he ate everything at once!",
    "A. gravity\nB. light\nC. sound\nD. heat\n\nThe answer is (B), because nothing is faster than light.",
)
VOCABULARY = 320
CONTEXT = 128
MODEL_KINDS = (
    "llama",
    "llama_untied",
    "mistral_window",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "gemma2_window",
    "gemma3_window",
    "gpt2",
    "gpt_neox",
    "gpt_neo_local",
    "opt",
    "phi",
    "falcon_alibi",
    "bloom",
    "mpt",
    "mixtral",
    "olmo2",
    "deepseek_v3",
    "gpt_oss_window",
    "mamba",
    "llama4_chunked",
)
#: Models that are not causal, with the kind of tokenizer that each comes with.
OTHER_KINDS = {"bert": "cls", "t5": "t5"}

MakeModel = Callable[..., Path]
MakeAdapter = Callable[..., Path]


def make_tokenizer(kind: str = "bos") -> Any:
    """Train a byte-level BPE tokenizer.

    Args:
        kind: ``bos`` puts a BOS token in front of texts, ``eos`` has an EOS token only and adds nothing, ``spaces``
            marks words by a leading space as Llama 2 does, with a BOS token, ``cls`` puts texts and pairs of texts
            between CLS and SEP as BERT does, ``t5`` ends texts with EOS; the last two have a padding token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = _SPECIAL.get(kind, {"bos_token": "<s>", "eos_token": "</s>"})
    special = list(names.values())
    if kind == "spaces":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special = [*special, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY + 64, special_tokens=special)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    if frame := _FRAMES.get(kind, {"single": "<s> $A", "special_tokens": [("<s>", 0)]}):
        tokenizer.post_processor = processors.TemplateProcessing(**frame)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


_SPECIAL = {
    "eos": {"eos_token": "</s>"},
    "cls": {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "t5": {"pad_token": "<pad>", "eos_token": "</s>"},
}
_FRAMES: dict[str, dict[str, Any]] = {
    "eos": {},
    "cls": {
        "single": "[CLS] $A [SEP]",
        "pair": "[CLS] $A [SEP] $B:1 [SEP]:1",
        "special_tokens": [("[CLS]", 1), ("[SEP]", 2)],
    },
    "t5": {"single": "$A </s>", "special_tokens": [("</s>", 1)]},
}


def _config(kind: str, vocabulary: int, context: int) -> Any:
    import transformers as hf

    ids = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": context}
    usual = ids | size | wide | {"initializer_range": 0.2}
    slides = {"layer_types": ["sliding_attention", "full_attention"]}
    makers: dict[str, Callable[[], Any]] = {
        "llama": lambda: hf.LlamaConfig(**usual, tie_word_embeddings=True),
        "llama_untied": lambda: hf.LlamaConfig(**usual, tie_word_embeddings=False),
        "mistral_window": lambda: hf.MistralConfig(**usual, sliding_window=10, head_dim=8),
        "qwen2": lambda: hf.Qwen2Config(**usual),
        "qwen2_window": lambda: hf.Qwen2Config(
            **usual, use_sliding_window=True, sliding_window=10, max_window_layers=0, **slides
        ),
        "qwen3": lambda: hf.Qwen3Config(**usual, head_dim=8),
        "gemma2_window": lambda: hf.Gemma2Config(
            **usual, head_dim=8, query_pre_attn_scalar=8, sliding_window=10, **slides
        ),
        "gemma3_window": lambda: hf.Gemma3TextConfig(
            **usual, head_dim=8, query_pre_attn_scalar=8, sliding_window=10, **slides
        ),
        "gpt2": lambda: hf.GPT2Config(
            **ids, n_embd=32, n_layer=2, n_head=4, n_positions=context, initializer_range=0.2
        ),
        "gpt_neox": lambda: hf.GPTNeoXConfig(
            **ids, **size, intermediate_size=48, max_position_embeddings=context, initializer_range=0.2
        ),
        "gpt_neo_local": lambda: hf.GPTNeoConfig(
            **ids,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=60,
            max_position_embeddings=context,
            initializer_range=0.2,
        ),
        "opt": lambda: hf.OPTConfig(
            **{**ids, "pad_token_id": 1},
            **size,
            ffn_dim=48,
            word_embed_proj_dim=32,
            max_position_embeddings=context,
            init_std=0.2,
        ),
        "phi": lambda: hf.PhiConfig(**{**usual, "num_key_value_heads": 4}),
        "falcon_alibi": lambda: hf.FalconConfig(
            **ids, **size, alibi=True, new_decoder_architecture=False, initializer_range=0.2
        ),
        "bloom": lambda: hf.BloomConfig(**ids, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
        "mpt": lambda: hf.MptConfig(
            **ids, d_model=32, n_heads=4, n_layers=2, max_seq_len=context, initializer_range=0.2
        ),
        "mixtral": lambda: hf.MixtralConfig(**usual, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
        "olmo2": lambda: hf.Olmo2Config(**usual),
        "deepseek_v3": lambda: hf.DeepseekV3Config(
            **usual | {"num_key_value_heads": 4},
            kv_lora_rank=8,
            q_lora_rank=8,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=12,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            moe_intermediate_size=16,
            first_k_dense_replace=1,
        ),
        "gpt_oss_window": lambda: hf.GptOssConfig(
            **usual, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=10, **slides
        ),
        "mamba": lambda: hf.MambaConfig(
            **ids, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.2
        ),
        "llama4_chunked": lambda: hf.Llama4TextConfig(
            **usual,
            head_dim=8,
            intermediate_size_mlp=48,
            num_local_experts=2,
            attention_chunk_size=60,
            layer_types=["chunked_attention", "full_attention"],
            no_rope_layers=[1, 0],
            moe_layers=[],
        ),
        "bert": lambda: hf.BertConfig(
            vocab_size=vocabulary,
            pad_token_id=0,
            **size,
            intermediate_size=48,
            max_position_embeddings=context,
            initializer_range=0.2,
        ),
        "t5": lambda: hf.T5Config(
            vocab_size=vocabulary,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            n_positions=context,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        ),
    }
    return makers[kind]()


def save_model(
    folder: Path, kind: str = "llama", tokenizer: str = "bos", dtype: str = "float32", seed: int = 0
) -> Path:
    """Write a random model with its tokenizer into ``folder``.

    ``bert`` is saved as BERT itself is, with the heads that it was pretrained with and none for labels; ``bert`` and
    ``t5`` come with tokenizers of their own, whatever ``tokenizer`` says.
    """
    import torch
    from transformers import AutoModelForCausalLM, BertForPreTraining, T5ForConditionalGeneration

    words = make_tokenizer(OTHER_KINDS.get(kind, tokenizer))
    torch.manual_seed(seed)
    config = _config(kind, -(-len(words) // 16) * 16, CONTEXT)
    makers = {"bert": BertForPreTraining, "t5": T5ForConditionalGeneration}
    model = makers[kind](config) if kind in makers else AutoModelForCausalLM.from_config(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, config: Any = None, seed: int = 1, strength: float = 1.0) -> Path:
    """Write a random adapter for the model in ``base``; by default a LoRA on all linear layers.

    ``strength`` scales the second factor of a LoRA: at 1 it moves log-probabilities by several nats.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = config or LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "modules_to_save" in name or "ia3" in name or "vector" in name:
                weight.add_(torch.randn_like(weight) * 0.3)
            if "lora_B" in name:
                weight.mul_(strength)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeModel]:
    """``tiny_model(kind, tokenizer, dtype, seed)``: folder of a random model, made once per session."""
    made: dict[tuple[Any, ...], Path] = {}

    def make(kind: str = "llama", tokenizer: str = "bos", dtype: str = "float32", seed: int = 0) -> Path:
        key = (kind, tokenizer, dtype, seed)
        if key not in made:
            made[key] = save_model(tmp_path_factory.mktemp(kind), *key)
        return made[key]

    yield make


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeAdapter]:
    """``tiny_adapter(base, config, seed)``: folder of a random adapter, made once per session."""
    made: dict[tuple[Any, ...], Path] = {}

    def make(base: Path, config: Any = None, seed: int = 1) -> Path:
        key = (base, repr(config), seed)
        if key not in made:
            made[key] = save_adapter(tmp_path_factory.mktemp("adapter"), base, config, seed)
        return made[key]

    yield make
