"""The models that parity is checked on, and a summary of how close both sides came."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from parity.sides import Note, Subject

_PROPERTY = "parity"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the tests noted, wherever they ran: properties come with the reports of other processes too."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    notes = [value for report in reports for name, value in report.user_properties if name == _PROPERTY]
    if notes:
        terminalreporter.section("parity with lm-eval")
        for note in notes:
            terminalreporter.write_line(note)


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """``note(line)`` adds a line to the summary."""
    return partial(record_property, _PROPERTY)


def _adapter(base: Path, folder: Path, rank: int) -> Path:
    """Make a LoRA that changes answers without driving the model to where float32 rounds by more than the tolerance.

    At full strength the small model's continuations fall to -340 nats, and both sides are 7e-4 off double precision.
    """
    import tiny_models
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", init_lora_weights=False)
    return tiny_models.save_adapter(folder, base, config, strength=0.2)


@pytest.fixture(scope="session")
def stories(stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A real model of 260 thousand parameters and a context of 512 tokens, with a random adapter."""
    return Subject("stories260K", stories260k, _adapter(stories260k, tmp_path_factory.mktemp("stories-adapter"), 4))


@pytest.fixture(scope="session")
def random29m(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A random Llama of 29 million parameters whose tokenizer was trained on real questions."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("random29m")
    math = pq.read_table(mirror / "openai/gsm8k/main/train.parquet").slice(0, 2000).to_pylist()
    common = pq.read_table(mirror / "Rowan/hellaswag/default/validation.parquet").slice(0, 2000).to_pylist()
    texts = [f"{row['question']} {row['answer']}" for row in math]
    texts += [f"{row['ctx']} {' '.join(row['endings'])}" for row in common]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return Subject("random29M", folder, _adapter(folder, tmp_path_factory.mktemp("random29m-adapter"), 8))
