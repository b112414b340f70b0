"""What the engine tests share: answers found the plain way, one sequence at a time, to hold the engine against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

Pair = tuple[str, str]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of tiny models are attended to in several chunks, as long rows of real models are."""
    monkeypatch.setattr("tuneboard.engines.attention._CHUNK", 8)


class Plain:
    """A freshly loaded model, perhaps with an adapter, that is asked without any of the engine's code."""

    def __init__(self, base: Path, adapter: Path | None = None, max_length: int = 128) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        self.model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()
        self.max_length = max_length
        self._texts: dict[tuple[str, int], str] = {}

    def logprobs(self, tokens: Sequence[int]) -> Any:
        """Log-probabilities after each token, shape [length, vocabulary]."""
        import torch

        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([list(tokens)])).logits[0].double().log_softmax(-1)

    def score(self, tokens: Sequence[int], targets: Sequence[int]) -> tuple[float, bool]:
        """Sum of the log-probabilities of ``targets``, which the last positions of ``tokens`` predict."""
        rows = self.logprobs(tokens)[-len(targets) :]
        picked = sum(float(row[target]) for row, target in zip(rows, targets, strict=True))
        return picked, all(int(row.argmax()) == target for row, target in zip(rows, targets, strict=True))

    def pair(self, context: str, continuation: str) -> tuple[float, bool]:
        """Score a continuation of a context that ends in no space."""
        before, whole = self.tokenizer(context)["input_ids"], self.tokenizer(context + continuation)["input_ids"]
        kept = whole[-(self.max_length + 1) :][:-1]
        return self.score(kept, whole[len(before) :])

    def greedy(self, context: str, max_new_tokens: int) -> str:
        """Text that ``generate`` continues the context with; asked for once."""
        key = (context, max_new_tokens)
        if key not in self._texts:
            self._texts[key] = self.generate(*key)
        return self._texts[key]

    def generate(self, context: str, max_new_tokens: int) -> str:
        """Text that ``generate`` continues the context with, under the generation config as it is now."""
        import torch

        ids = self.tokenizer(context)["input_ids"][-(self.max_length - max_new_tokens) :]
        out = self.model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.eos_token_id,
        )
        return str(self.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True))


@pytest.fixture(scope="session")
def plain() -> Callable[..., Plain]:
    """``plain(base, adapter)``: the model asked the plain way; loaded once per session."""
    return cache(Plain)


@pytest.fixture
def make_engine() -> Callable[..., Any]:
    """``make_engine(base, {name: adapter}, dtype, notice)``: a loaded transformers engine on the CPU."""
    from tuneboard.candidates import resolve_adapter
    from tuneboard.engines.loading import LoadOptions
    from tuneboard.engines.transformers import TransformersEngine
    from tuneboard.records import ModelRef

    def make(
        base: Path,
        adapters: dict[str, Path] | None = None,
        dtype: str = "auto",
        notice: Callable[[str], None] = lambda line: None,
        **ref: Any,
    ) -> TransformersEngine:
        engine = TransformersEngine(ModelRef(str(base), dtype=dtype, **ref), LoadOptions(device="cpu"), notice)
        for name, path in (adapters or {}).items():
            engine.attach(name, resolve_adapter(str(path)))
        return engine

    return make


@pytest.fixture
def pairs() -> list[Pair]:
    """Questions that share a long block of examples, each with four choices, some of several tokens."""
    block = "Question: How much is 12 + 30? Answer: 42. Question: What falls? Answer: a ball. " * 2
    questions = ("What is light", "What is light made of", "Who took the bread", "Why", "How")
    choices = (" A", " B", " the garden", " nothing is faster than light", " Paris.")
    return [(f"{block}{question}? Answer:", choice) for question in questions for choice in choices]


@pytest.fixture
def ask() -> Callable[..., list[Any]]:
    """``ask(engine, kind, arguments, candidate)``: answers in the order of the requests."""
    from tuneboard.engines.protocol import Work

    def run(engine: Any, kind: Any, arguments: Sequence[tuple[Any, ...]], candidate: str = "") -> list[Any]:
        work = [Work(i, candidate, kind, tuple(a), seed=i) for i, a in enumerate(arguments)]
        answers = {answer.id: answer for answer in engine.run(work)}
        assert sorted(answers) == list(range(len(work)))
        return [answers[i] for i in range(len(work))]

    return run
