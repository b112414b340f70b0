"""Adapters of every kind over one copy of the base give what a model loaded with that adapter alone gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter
from tuneboard.errors import AdapterError, EngineError

PROMPTS = ("Once upon a time", "Question: What is the capital of France? Answer:", "The man")
SETTINGS = {"until": ["zzz"], "max_gen_toks": 8}


def configs() -> dict[str, Any]:
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, VeraConfig

    lora: dict[str, Any] = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}
    some = ["q_proj", "v_proj", "down_proj"]
    return {
        "lora": LoraConfig(**lora, target_modules="all-linear"),
        "rank_pattern": LoraConfig(
            **lora, target_modules=some, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}
        ),
        "rslora": LoraConfig(**lora, target_modules=some, use_rslora=True),
        "dora": LoraConfig(**lora, target_modules=some, use_dora=True),
        "bias": LoraConfig(**lora, target_modules=some, lora_bias=True),
        "one_layer": LoraConfig(**lora, target_modules=some, layers_to_transform=[1]),
        "embedding": LoraConfig(**lora, target_modules=[*some, "embed_tokens"]),
        "head": LoraConfig(**lora, target_modules=some, modules_to_save=["lm_head"]),
        "norms": LoraConfig(**lora, target_modules=some, modules_to_save=["norm"]),
        "ia3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "loha": LoHaConfig(r=2, target_modules=some, init_weights=False),
        "lokr": LoKrConfig(r=2, target_modules=some, init_weights=False),
        "oft": OFTConfig(oft_block_size=8, r=0, target_modules=some, init_weights=False),
        "vera": VeraConfig(r=4, target_modules=["q_proj", "o_proj"], init_weights=False, d_initial=1.0),
    }


def assert_equal(engine: Any, reference: Any, name: str, pairs: Any, ask: Any) -> list[float]:
    scored = ask(engine, "loglikelihood", pairs[::4], name)
    for (context, continuation), answer in zip(pairs[::4], scored, strict=True):
        logprob, greedy = reference.pair(context, continuation)
        assert answer.response == (pytest.approx(logprob, abs=5e-5), greedy)
    texts = ask(engine, "generate_until", [(prompt, SETTINGS) for prompt in PROMPTS], name)
    assert [answer.response for answer in texts] == [reference.greedy(prompt, 8) for prompt in PROMPTS]
    return [answer.response[0] for answer in scored]


@pytest.mark.parametrize("kind", configs())
def test_an_adapter_answers_as_if_it_were_loaded_alone(
    kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama_untied")
    adapter = tiny_adapter(base, configs()[kind])
    engine = make_engine(base, {"a": adapter})
    with_adapter = assert_equal(engine, plain(base, adapter), "a", pairs, ask)
    without = assert_equal(engine, plain(base), "", pairs, ask)
    assert max(abs(x - y) for x, y in zip(with_adapter, without, strict=True)) > 0.01


@pytest.mark.parametrize("base_kind", ["llama", "gpt2"])
def test_many_adapters_are_told_apart_in_one_run(
    base_kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any
) -> None:
    from tuneboard.engines.protocol import Work

    base = tiny_model(base_kind)
    adapters = {name: tiny_adapter(base, seed=seed) for seed, name in enumerate("abc", start=1)}
    engine = make_engine(base, adapters)
    names = ("c", "", "a", "b", "a", "")
    work = [Work(i, name, "loglikelihood", ("The man", " took the bread")) for i, name in enumerate(names)]
    answers = {answer.id: answer.response for answer in engine.run(work)}
    for i, name in enumerate(names):
        expected = plain(base, adapters.get(name)).pair("The man", " took the bread")[0]
        assert answers[i][0] == pytest.approx(expected, abs=5e-5)
    assert answers[1] == answers[5]
    assert answers[2] == answers[4]


@pytest.mark.parametrize(
    "kinds", [("lora", "dora", "embedding", "head", "rank_pattern"), ("ia3", "ia3"), ("oft", "oft")]
)
def test_different_adapters_of_one_type_stand_side_by_side(
    kinds: tuple[str, ...], tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama_untied")
    adapters = {f"{kind}{i}": tiny_adapter(base, configs()[kind], seed=i) for i, kind in enumerate(kinds)}
    engine = make_engine(base, adapters)
    for name, adapter in adapters.items():
        assert_equal(engine, plain(base, adapter), name, pairs, ask)
    assert_equal(engine, plain(base), "", pairs, ask)


def test_half_precision_bases_keep_their_adapters_apart(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama", dtype="bfloat16")
    adapter = tiny_adapter(base)
    engine = make_engine(base, {"a": adapter})
    for name, path in (("a", adapter), ("", None)):
        reference = plain(base, path)
        for (context, continuation), answer in zip(pairs, ask(engine, "loglikelihood", pairs, name), strict=True):
            assert answer.response[0] == pytest.approx(reference.pair(context, continuation)[0], abs=0.15, rel=0.02)


@pytest.mark.parametrize("first", [True, False])
def test_an_adapter_of_other_shapes_is_refused_and_leaves_nothing_behind(
    first: bool, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any, tmp_path: Path
) -> None:
    base = tiny_model("llama")
    good, bad = tiny_adapter(base), tiny_adapter(tiny_model("phi"), seed=4)
    wide = tmp_path / "wide"
    import tiny_models
    from peft import LoraConfig

    tiny_models.save_adapter(wide, base, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    config = json.loads((wide / "adapter_config.json").read_text())
    (wide / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    engine = make_engine(base, {} if first else {"good": good})
    for wrong in (wide, bad):
        with pytest.raises(AdapterError, match="was it trained on another model") as caught:
            engine.attach("wrong", resolve_adapter(str(wrong)))
        assert "\n" not in str(caught.value)
    if first:
        engine.attach("good", resolve_adapter(str(good)))
    assert_equal(engine, plain(base, good), "good", pairs, ask)
    assert_equal(engine, plain(base), "", pairs, ask)
    with pytest.raises(EngineError, match="no adapter named 'wrong'"):
        ask(engine, "loglikelihood", pairs[:1], "wrong")


def test_a_refused_first_adapter_leaves_the_base_as_it_was(
    tiny_model: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any, tmp_path: Path
) -> None:
    import tiny_models
    from peft import LoraConfig

    base = tiny_model("llama")
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    tiny_models.save_adapter(tmp_path, base, config)
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(stored | {"r": 8}))
    engine = make_engine(base)
    with pytest.raises(AdapterError, match="size mismatch"):
        engine.attach("wrong", resolve_adapter(str(tmp_path)))
    assert_equal(engine, plain(base), "", pairs, ask)


def test_an_adapter_for_more_or_fewer_layers_is_refused(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = tiny_model("llama")
    weights = load_file(tiny_adapter(base) / "adapter_model.safetensors")
    config = (tiny_adapter(base) / "adapter_config.json").read_text()
    fewer = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    more = weights | {
        name.replace("layers.1", "layers.2"): w.clone() for name, w in weights.items() if "layers.1" in name
    }
    for label, changed in (("missing", fewer), ("left over", more)):
        folder = tmp_path / label
        folder.mkdir()
        save_file(changed, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(config)
        with pytest.raises(AdapterError, match=f"is {label}; was it trained on another model"):
            make_engine(base, {"a": folder})


def test_types_that_cannot_stand_together_are_refused(tiny_model: Any, tiny_adapter: Any, make_engine: Any) -> None:
    from peft import AdaptionPromptConfig

    base = tiny_model("llama_untied")
    engine = make_engine(base, {"a": tiny_adapter(base, configs()["lora"])})
    with pytest.raises(AdapterError, match="is IA3, beside LORA; load it on its own"):
        engine.attach("b", resolve_adapter(str(tiny_adapter(base, configs()["ia3"]))))
    prompts = AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=3, adapter_layers=1)
    with pytest.raises(AdapterError, match="is of type ADAPTION_PROMPT; the transformers engine serves LORA"):
        make_engine(base, {"p": tiny_adapter(base, prompts)})


def test_pickled_adapters_are_refused_unless_asked_for(tiny_model: Any, tiny_adapter: Any, tmp_path: Path) -> None:
    import torch

    good = tiny_adapter(tiny_model("llama"))
    (tmp_path / "adapter_config.json").write_text((good / "adapter_config.json").read_text())
    with pytest.raises(AdapterError, match=r"has no adapter_model.safetensors"):
        resolve_adapter(str(tmp_path))
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"only pickled weights .*can run code.* --allow-pickle"):
        resolve_adapter(str(tmp_path))
    assert resolve_adapter(str(tmp_path), allow_pickle=True).kind == "LORA"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_broken_adapter_config_is_one_clear_line(
    text: str, tiny_model: Any, tiny_adapter: Any, tmp_path: Path
) -> None:
    good = tiny_adapter(tiny_model("llama"))
    (tmp_path / "adapter_model.safetensors").write_bytes((good / "adapter_model.safetensors").read_bytes())
    with pytest.raises(AdapterError, match=r"no adapter_config.json"):
        resolve_adapter(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterError) as caught:
        resolve_adapter(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("broken", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"not safetensors at all, only words"])
def test_unreadable_adapter_weights_are_one_clear_line(
    broken: bytes, tiny_model: Any, tiny_adapter: Any, make_engine: Any, tmp_path: Path
) -> None:
    base = tiny_model("llama")
    (tmp_path / "adapter_config.json").write_text((tiny_adapter(base) / "adapter_config.json").read_text())
    (tmp_path / "adapter_model.safetensors").write_bytes(broken)
    with pytest.raises(AdapterError, match=r"adapter .* does not fit|cannot be read") as caught:
        make_engine(base, {"a": tmp_path})
    assert "\n" not in str(caught.value)
