"""Real vLLM beside the transformers engine: the same command, the same samples, answer by answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from with_vllm.both import World

HERE = Path(__file__).parent
#: Wide enough for vLLM's attention kernels, which take heads of 32 and more.
SIZE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
CONTEXT = 4096


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = find_spec("vllm") is None
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.timeout(900))
            if missing:
                item.add_marker(pytest.mark.skip(reason="vllm is not installed: make install-vllm"))


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``make_base(tied, spread)``: a random Llama of a size that vLLM takes; made once."""
    import torch
    from tiny_models import make_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    @cache
    def make(tied: bool = True, spread: float = 0.08) -> Path:
        folder = tmp_path_factory.mktemp("base")
        words = make_tokenizer()
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=-(-len(words) // 64) * 64,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            bos_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=tied,
            initializer_range=spread,
            **SIZE,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        words.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def make_world(make_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    """``make_world(spread)``: a base and three adapters: LoRA of two ranks, and rsLoRA with a pattern of ranks."""
    from peft import LoraConfig
    from tiny_models import save_adapter

    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    two = ["q_proj", "down_proj"]
    configs = {
        "one": LoraConfig(r=4, lora_alpha=8, target_modules=every, init_lora_weights=False),
        "two": LoraConfig(r=12, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
        "three": LoraConfig(
            r=8, use_rslora=True, rank_pattern={"q_proj": 2}, target_modules=two, init_lora_weights=False
        ),
    }

    @cache
    def make(spread: float = 0.08) -> World:
        folder, base = tmp_path_factory.mktemp("world"), make_base(True, spread)
        adapters = {n: save_adapter(folder / n, base, c, i + 1, 0.3) for i, (n, c) in enumerate(configs.items())}
        return World(base, adapters, folder)

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[..., World]) -> World:
    """A base and three adapters, whose scores are far apart."""
    return make_world()
