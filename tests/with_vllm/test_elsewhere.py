"""Adapters that vLLM does not serve are answered all the same, and it is said where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_models import MakeModel, save_adapter
from with_vllm.both import device

PAIRS = (
    ("Once upon a time there was a little", " girl"),
    ("Once upon a time there was a little", " red ball in the garden"),
    ("Question: What falls? Answer:", " a ball."),
)


def config(kind: str) -> Any:
    from peft import IA3Config, LoraConfig, PromptTuningConfig

    usual = {"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}
    return {
        "plain": lambda: LoraConfig(**usual),
        "dora": lambda: LoraConfig(**usual, use_dora=True),
        "head": lambda: LoraConfig(**usual | {"target_modules": ["q_proj", "lm_head"]}),
        "saved": lambda: LoraConfig(**usual, modules_to_save=["lm_head"]),
        "embeddings": lambda: LoraConfig(**usual | {"target_modules": ["q_proj", "embed_tokens"]}),
        "ia3": lambda: IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "prompt": lambda: PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }[kind]()


@pytest.fixture
def engines(make_base: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[list[Any], list[str]]]:
    """``engines(kinds, tied)``: for base and adapters, what both engines score; and the notes of the vLLM engine."""

    def make(kinds: Sequence[str], tied: bool = False) -> tuple[list[Any], list[str]]:
        from tuneboard.candidates import resolve_adapter, resolve_model
        from tuneboard.engines.loading import LoadOptions
        from tuneboard.engines.protocol import Work
        from tuneboard.engines.transformers import TransformersEngine
        from tuneboard.engines.vllm import VllmEngine
        from tuneboard.records import ModelRef

        base = make_base(tied)
        ref = resolve_model(ModelRef(str(base), dtype="float32"))
        paths = {kind: save_adapter(tmp_path / kind, base, config(kind), 3, 0.3) for kind in kinds}
        notes: list[str] = []
        engine = VllmEngine(ref, LoadOptions(device()), notes.append)
        try:
            for name, path in paths.items():
                engine.attach(name, resolve_adapter(str(path)))
            engine.start()
            work = [
                Work(i, c, "loglikelihood", p) for i, (c, p) in enumerate((c, p) for c in ("", *kinds) for p in PAIRS)
            ]
            ours = {answer.id: answer for answer in engine.run(work)}
        finally:
            engine.close()
        rows = []
        for place, name in enumerate(("", *kinds)):
            theirs = TransformersEngine(ref, LoadOptions("cpu"))
            if name:
                theirs.attach(name, resolve_adapter(str(paths[name])))
            for item in (one for one in work if one.candidate == name):
                (wanted,) = theirs.run([item])
                assert ours[item.id].response is not None, ours[item.id].error
                rows.append((name, ours[item.id].response, wanted.response))
            assert place < len(kinds) + 1
        return rows, notes

    return make


def agree(rows: Sequence[Any]) -> None:
    for name, ours, theirs in rows:
        assert ours[0] == pytest.approx(theirs[0], abs=1e-3), name
        assert ours[1] == theirs[1], name


def test_what_can_be_merged_is_merged_and_scores_as_the_adapter_does(engines: Callable[..., Any]) -> None:
    kinds = ("plain", "dora", "head", "saved", "embeddings", "ia3")
    rows, notes = engines(kinds)
    agree(rows)
    merged = [line.split(":")[0] for line in notes if "merged into a temporary checkpoint" in line]
    assert merged == list(kinds[1:])


def test_what_cannot_be_merged_is_answered_by_transformers(engines: Callable[..., Any]) -> None:
    rows, notes = engines(("plain", "prompt"))
    agree(rows)
    assert any(line.startswith("prompt: ") and "the transformers engine answers" in line for line in notes)


def test_a_head_that_is_tied_to_the_embeddings_is_found_out_and_answered_by_transformers(
    engines: Callable[..., Any],
) -> None:
    rows, notes = engines(("head",), tied=True)
    agree(rows)
    assert any("merged, it would answer otherwise" in line for line in notes)


@pytest.mark.skipif(device() != "cpu", reason="vLLM runs on a GPU here, which takes more sizes of heads")
def test_heads_that_vllm_does_not_take_are_refused_before_the_model_is_loaded(tiny_model: MakeModel) -> None:
    from tuneboard.candidates import resolve_model
    from tuneboard.engines.loading import LoadOptions
    from tuneboard.engines.vllm import VllmEngine
    from tuneboard.errors import ModelError
    from tuneboard.records import ModelRef

    engine = VllmEngine(resolve_model(ModelRef(str(tiny_model("llama")))), LoadOptions("cpu"))
    with pytest.raises(ModelError, match=r"has attention heads of \d+, and vLLM on CPUs takes 32, .*transformers$"):
        engine.start()
    engine.close()
