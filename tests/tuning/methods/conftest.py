"""Tiny models as each method gets them, a batch for each, and a few steps of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuneboard.tuning.methods import Method, find_method

LABELS = 3
KINDS: dict[str, Any] = {"bert": "classification", "t5": "seq2seq"}


@dataclass
class Ready:
    """A tiny model that a method prepared."""

    method: Method
    model: Any
    base: Path
    kind: Any

    def inputs(self) -> dict[str, Any]:
        """Six texts, all of one length, with what is to be learnt."""
        import torch

        draws = torch.Generator().manual_seed(5)
        ids = torch.randint(3, 200, (6, 12), generator=draws)
        answers = {"classification": torch.tensor([0, 1, 2, 0, 1, 2]), "seq2seq": ids[:, 2:8].clone()}
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": answers.get(self.kind, ids.clone()),
        }

    def logits(self, model: Any = None) -> Any:
        """What the model answers, without dropout."""
        import torch

        model = self.model if model is None else model
        model.eval()
        with torch.no_grad():
            return model(**self.inputs()).logits

    def learn(self, steps: int = 8, rate: float = 1e-2) -> tuple[float, float]:
        """Train on the batch; the loss before and after, without dropout."""
        import torch

        optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=rate)
        given = self.inputs()
        before = self._loss(given)
        for _ in range(steps):
            self.model.train()
            optimizer.zero_grad()
            self.model(**given).loss.backward()
            optimizer.step()
        return before, self._loss(given)

    def _loss(self, given: dict[str, Any]) -> float:
        import torch

        self.model.eval()
        with torch.no_grad():
            return float(self.model(**given).loss)


def load(folder: Path, kind: str, seed: int = 0, **arguments: Any) -> Any:
    """Load a model for its kind; a new head is drawn by the seed."""
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    if kind == "classification":
        arguments = {"num_labels": LABELS, "pad_token_id": 0} | arguments
        return hf.AutoModelForSequenceClassification.from_pretrained(folder, **arguments)
    return (hf.AutoModelForSeq2SeqLM if kind == "seq2seq" else hf.AutoModelForCausalLM).from_pretrained(
        folder, **arguments
    )


@pytest.fixture
def prepare(tiny_model: Any) -> Callable[..., Ready]:
    """``prepare(method, architecture, kind=None, quantized=False, **options)``."""

    def make(name: str, architecture: str, kind: Any = None, quantized: bool = False, **options: Any) -> Ready:
        method = find_method(name)
        kind = kind or KINDS.get(architecture, "causal")
        chosen = method.Options(**options)
        arguments = {"quantization_config": in_four_bit(method, chosen)} if quantized else {}
        base = load(tiny_model(architecture), kind, **arguments)
        if quantized:
            on_any_processor(base)
        return Ready(method, method.prepare(base, chosen, kind), tiny_model(architecture), kind)

    return make


@pytest.fixture
def reload() -> Callable[[Ready, Path], Any]:
    """Read what a method saved into a folder with the libraries alone, onto another draw of the head."""

    def read(ready: Ready, folder: Path) -> Any:
        import peft

        if not (folder / "adapter_config.json").is_file():
            return load(folder, ready.kind, seed=7)
        return peft.PeftModel.from_pretrained(load(ready.base, ready.kind, seed=7), folder)

    return read


def in_four_bit(method: Any, options: Any) -> Any:
    """The quantization that a method asks for, computed in float32."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**method.quantization(options), bnb_4bit_compute_dtype=torch.float32)


def on_any_processor(model: Any) -> None:
    """Keep bitsandbytes from kernels that take weights of some shapes and processors only."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
