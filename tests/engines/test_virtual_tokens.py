"""Prefix tuning, prompt tuning and p-tuning give in the engine what peft's own uncached forward pass gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter
from tuneboard.engines.protocol import BASE, Work
from tuneboard.errors import AdapterError

VIRTUAL = 5
KINDS = ("prefix", "prompt", "p_tuning")
PROMPTS = ("Once upon a time", "Question: What is the capital of France? Answer:", "The man took", "Once upon a time,")
SETTINGS = {"until": ["zzz"], "max_gen_toks": 9}


def config(kind: str, tokens: int = VIRTUAL, **more: Any) -> Any:
    import peft

    made = {"prefix": peft.PrefixTuningConfig, "prompt": peft.PromptTuningConfig, "p_tuning": peft.PromptEncoderConfig}
    extra = {"p_tuning": {"encoder_hidden_size": 16}}.get(kind, {})
    return made[kind](task_type="CAUSAL_LM", num_virtual_tokens=tokens, **extra, **more)


def by_forward(reference: Any, context: str, new: int, room: int) -> str:
    """Greedy text by whole, uncached forward passes of peft's model."""
    tokens = reference.tokenizer(context)["input_ids"][-(room - new) :]
    start = len(tokens)
    while len(tokens) - start < new:
        tokens = [*tokens, int(reference.logprobs(tokens)[-1].argmax())]
        if tokens[-1] == reference.tokenizer.eos_token_id:
            break
    return str(reference.tokenizer.decode(tokens[start:], skip_special_tokens=True))


def assert_equal(engine: Any, reference: Any, name: str, pairs: Any, ask: Any) -> list[float]:
    room = reference.max_length
    scored = ask(engine, "loglikelihood", pairs, name)
    for (context, continuation), answer in zip(pairs, scored, strict=True):
        logprob, greedy = reference.pair(context, continuation)
        assert answer.response == (pytest.approx(logprob, abs=2e-5), greedy)
    texts = ask(engine, "generate_until", [(prompt, SETTINGS) for prompt in PROMPTS], name)
    assert [answer.response for answer in texts] == [by_forward(reference, prompt, 9, room) for prompt in PROMPTS]
    return [answer.response[0] for answer in scored]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base_kind", ["llama", "gpt2"])
def test_adapters_side_by_side_answer_as_peft_does_alone(
    base_kind: str, kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model(base_kind)
    adapters = {"a": tiny_adapter(base, config(kind), 1), "b.c": tiny_adapter(base, config(kind, 12), 2)}
    notes: list[str] = []
    engine = make_engine(base, adapters, notice=notes.append)
    assert engine.shares_prefixes
    assert not notes
    lone = ask(make_engine(base), "loglikelihood", pairs)
    found = {
        name: assert_equal(engine, plain(base, path, 128 - tokens), name, pairs, ask)
        for (name, path), tokens in zip(adapters.items(), (VIRTUAL, 12), strict=True)
    }
    assert [a.response for a in ask(engine, "loglikelihood", pairs)] == [a.response for a in lone]
    assert_equal(engine, plain(base), BASE, pairs, ask)
    for name in adapters:
        assert max(abs(x - y.response[0]) for x, y in zip(found[name], lone, strict=True)) > 0.01


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_candidates_may_be_mixed_in_one_run(
    kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any
) -> None:
    base = tiny_model("llama")
    adapters = {name: tiny_adapter(base, config(kind), seed) for seed, name in enumerate("abc", start=1)}
    engine = make_engine(base, adapters)
    names = ("c", "", "a", "b", "a", "")
    work = [Work(i, name, "loglikelihood", ("The man", " took the bread")) for i, name in enumerate(names)]
    work += [Work(6 + i, name, "generate_until", ("Who took", SETTINGS)) for i, name in enumerate(names)]
    answers = {answer.id: answer.response for answer in engine.run(work)}
    for i, name in enumerate(names):
        reference = plain(base, adapters.get(name), 123 if name else 128)
        assert answers[i][0] == pytest.approx(reference.pair("The man", " took the bread")[0], abs=2e-5)
        assert answers[6 + i] == by_forward(reference, "Who took", 9, reference.max_length)


@pytest.mark.parametrize(
    "base_kind", ["llama_untied", "mistral_window", "qwen2_window", "gemma2_window", "gemma3_window", "opt", "phi"]
)
@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_other_architectures_share_prefixes_behind_the_root(
    base_kind: str, kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model(base_kind)
    adapter = tiny_adapter(base, config(kind))
    notes: list[str] = []
    engine = make_engine(base, {"a": adapter}, notice=notes.append)
    assert not notes
    assert_equal(engine, plain(base, adapter, 128 - VIRTUAL), "a", pairs[::6], ask)
    assert_equal(engine, plain(base), BASE, pairs[::6], ask)


@pytest.mark.parametrize("base_kind", ["falcon_alibi", "bloom", "gpt_neo_local", "llama4_chunked"])
@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_architectures_that_cannot_share_serve_them_one_by_one(
    base_kind: str, kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model(base_kind)
    # Falcon's heads share one key; peft has to be told.
    one_key = {"num_attention_heads": 1, "token_dim": 8} if (kind, base_kind) == ("prefix", "falcon_alibi") else {}
    adapter = tiny_adapter(base, config(kind, **one_key))
    engine = make_engine(base, {"a": adapter})
    assert not engine.shares_prefixes
    room = engine.encoder.max_length - VIRTUAL
    assert_equal(engine, plain(base, adapter, room), "a", pairs[::6], ask)


def test_a_state_space_model_takes_prompts_but_no_prefix(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any, tmp_path: Path
) -> None:
    base = tiny_model("mamba")
    adapter = tiny_adapter(base, config("prompt", num_attention_heads=1))
    engine = make_engine(base, {"a": adapter})
    assert_equal(engine, plain(base, adapter, engine.encoder.max_length - VIRTUAL), "a", pairs[::6], ask)
    prefix = tiny_adapter(tiny_model("llama"), config("prefix"))
    with pytest.raises(AdapterError, match="key-value cache, which MambaForCausalLM does not have"):
        make_engine(base, {"a": prefix})


def test_the_context_holds_as_many_tokens_less(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, ask: Any
) -> None:
    base = tiny_model("gpt2")
    engine = make_engine(base, {"a": (adapter := tiny_adapter(base, config("prompt")))})
    reference, long = plain(base, adapter, 128 - VIRTUAL), "The man took the bread, cut it. " * 30
    (scored,) = ask(engine, "loglikelihood", [(long.strip(), " a ball")], "a")
    assert scored.response[0] == pytest.approx(reference.pair(long.strip(), " a ball")[0], abs=2e-5)
    assert scored.tokens.truncated
    (text,) = ask(engine, "generate_until", [(long, SETTINGS)], "a")
    assert text.response == by_forward(reference, long, 9, 128 - VIRTUAL)
    (rolling,) = ask(engine, "loglikelihood_rolling", [(long,)], "a")
    ids = reference.tokenizer(long)["input_ids"]
    room, total = 128 - VIRTUAL, 0.0
    for start in range(0, len(ids), room):
        stop = min(start + room, len(ids))
        fed = [0, *ids[: stop - 1]] if start == 0 else ids[stop - room - 1 : stop - 1]
        total += reference.score(fed, ids[start:stop])[0]
    assert rolling.response == pytest.approx(total, abs=2e-4)


def test_prefixes_are_computed_once_behind_the_root(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama")
    engine = make_engine(base, {"a": tiny_adapter(base, config("prefix"))})
    answers = ask(engine, "loglikelihood", pairs, "a")
    assert sum(a.tokens.computed for a in answers) == sum(a.tokens.distinct for a in answers)
    assert sum(a.tokens.reused for a in answers) > sum(a.tokens.computed for a in answers)


def test_running_out_of_memory_leaves_the_root_in_place(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama")
    adapter = tiny_adapter(base, config("prefix"))
    notes: list[str] = []
    engine = make_engine(base, {"a": adapter}, notice=notes.append)
    honest, broken = engine.tree.forward, iter([False, True, False, True])

    def forward(*args: Any) -> Any:
        logits = honest(*args)
        if next(broken, False):
            raise MemoryError
        return logits

    engine.tree.forward = forward
    assert_equal(engine, plain(base, adapter, 128 - VIRTUAL), "a", pairs, ask)
    assert "out of memory" in notes[0]


def test_a_prefix_longer_than_a_sliding_window_is_cut_by_it(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    for base_kind in ("mistral_window", "gemma2_window"):
        base = tiny_model(base_kind)
        adapter = tiny_adapter(base, config("prefix", 16))
        assert_equal(make_engine(base, {"a": adapter}), plain(base, adapter, 112), "a", pairs[::6], ask)


def test_a_projected_prefix_is_served_as_saved(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama")
    adapter = tiny_adapter(base, config("prefix", prefix_projection=True, encoder_hidden_size=16))
    assert_equal(make_engine(base, {"a": adapter}), plain(base, adapter, 123), "a", pairs[::4], ask)


def test_half_precision_bases_take_virtual_tokens(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama", dtype="bfloat16")
    for kind in KINDS:
        adapter = tiny_adapter(base, config(kind))
        reference = plain(base, adapter, 123)
        answers = ask(make_engine(base, {"a": adapter}), "loglikelihood", pairs[::4], "a")
        for (context, continuation), answer in zip(pairs[::4], answers, strict=True):
            assert answer.response[0] == pytest.approx(reference.pair(context, continuation)[0], abs=0.15, rel=0.02)


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_an_adapter_of_another_base_is_one_clear_line(
    kind: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any, tmp_path: Path
) -> None:
    import tiny_models
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    base, other = tiny_model("llama"), tmp_path / "other"
    torch.manual_seed(0)
    size = {"hidden_size": 48, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=320, **size)).save_pretrained(other)
    wrong = tiny_models.save_adapter(tmp_path / "wrong", other, config(kind))
    engine = make_engine(base)
    with pytest.raises(AdapterError, match=r"does not fit this base model.*was it trained on another model") as caught:
        engine.attach("wrong", resolve_adapter(str(wrong)))
    assert "\n" not in str(caught.value)
    good = tiny_adapter(base, config(kind))
    engine.attach("good", resolve_adapter(str(good)))
    assert_equal(engine, plain(base, good, 123), "good", pairs[::6], ask)


def test_a_root_that_fills_the_context_and_another_task_are_refused(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, tmp_path: Path
) -> None:
    base = tiny_model("llama")
    with pytest.raises(AdapterError, match="has 128 virtual tokens; the context holds 128"):
        make_engine(base, {"a": tiny_adapter(base, config("prompt", 128))})
    small = tiny_adapter(base, config("prompt"))
    (tmp_path / "adapter_model.safetensors").write_bytes((small / "adapter_model.safetensors").read_bytes())
    stored = json.loads((small / "adapter_config.json").read_text()) | {"task_type": "SEQ_CLS"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(stored))
    with pytest.raises(AdapterError, match="is for SEQ_CLS; expected CAUSAL_LM"):
        make_engine(base, {"a": tmp_path})


def test_a_root_of_nearly_the_whole_context_still_works(
    tiny_model: Any, tiny_adapter: Any, make_engine: Any, plain: Any, ask: Any
) -> None:
    base = tiny_model("gpt2")
    adapter = tiny_adapter(base, config("prompt", 125))
    (answer,) = ask(make_engine(base, {"a": adapter}), "loglikelihood", [("The man took", " bread")], "a")
    expected = plain(base, adapter, 3).pair("The man took", " bread")
    assert answer.response == (pytest.approx(expected[0], abs=2e-5), expected[1])
