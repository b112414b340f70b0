"""Bottleneck adapters in a base: identity at first, side by side, written and read without loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter
from tuneboard.engines import bottleneck
from tuneboard.engines.bottleneck_files import BottleneckConfig
from tuneboard.engines.places import find_places
from tuneboard.engines.protocol import BASE, Work
from tuneboard.errors import AdapterError, ModelError, UsageError

LLAMA = ("model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.down_proj")
PLACES = {
    "llama": LLAMA,
    "mistral_window": LLAMA,
    "qwen3": LLAMA,
    "gemma3_window": LLAMA,
    "gpt2": ("transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers.{}.attention.dense", "gpt_neox.layers.{}.mlp.dense_4h_to_h"),
    "gpt_neo_local": ("transformer.h.{}.attn.attention.out_proj", "transformer.h.{}.mlp.c_proj"),
    "opt": ("model.decoder.layers.{}.self_attn.out_proj", "model.decoder.layers.{}.fc2"),
    "phi": ("model.layers.{}.self_attn.dense", "model.layers.{}.mlp.fc2"),
    "falcon_alibi": ("transformer.h.{}.self_attention.dense", "transformer.h.{}.mlp.dense_4h_to_h"),
    "bloom": ("transformer.h.{}.self_attention.dense", "transformer.h.{}.mlp.dense_4h_to_h"),
    "mpt": ("transformer.blocks.{}.attn.out_proj", "transformer.blocks.{}.ffn.down_proj"),
}


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any, ids: Any = (3, 9, 20, 31, 8)) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([list(ids)])).logits


def shake(model: Any, name: str, seed: int) -> None:
    """Give an adapter weights that change something."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in bottleneck.trained_parameters(model, name):
            parameter.copy_(torch.randn_like(parameter) * 0.3)


@pytest.fixture(scope="session")
def make_bottleneck(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``make_bottleneck(base, seed, **config)``: folder of a random adapter."""

    def make(base: Path, seed: int = 1, **config: Any) -> Path:
        folder, model = tmp_path_factory.mktemp("bottleneck"), load(base)
        bottleneck.inject(model, "made", BottleneckConfig(**{"size": 6} | config))
        shake(model, "made", seed)
        bottleneck.save(model, "made", folder)
        return folder

    return make


@pytest.mark.parametrize("kind", PLACES)
def test_places_are_the_projections_of_each_sublayer(kind: str, tiny_model: Any) -> None:
    model = load(tiny_model(kind))
    for placement, kept in (("both", (0, 1)), ("attention", (0,)), ("feedforward", (1,))):
        expected = {PLACES[kind][sublayer].format(layer) for layer in (0, 1) for sublayer in kept}
        found = find_places(model, placement)
        assert set(found) == expected
        assert {place.width for place in found.values()} == {32}


def test_places_in_encoders_and_in_encoder_decoders(tiny_model: Any) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    bert = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    inner = ("attention.output.dense", "output.dense")
    assert set(find_places(bert, "both")) == {f"bert.encoder.layer.{i}.{name}" for i in (0, 1) for name in inner}
    t5 = AutoModelForSeq2SeqLM.from_pretrained(tiny_model("t5"))
    encoder = ("0.SelfAttention.o", "1.DenseReluDense.wo")
    decoder = ("0.SelfAttention.o", "1.EncDecAttention.o", "2.DenseReluDense.wo")
    expected = {f"encoder.block.{i}.layer.{name}" for i in (0, 1) for name in encoder}
    assert set(find_places(t5, "both")) == expected | {f"decoder.block.{i}.layer.{n}" for i in (0, 1) for n in decoder}


@pytest.mark.parametrize("kind", ["mamba", "mixtral", "deepseek_v3", "gpt_oss_window"])
def test_an_unknown_architecture_is_one_clear_line(kind: str, tiny_model: Any) -> None:
    with pytest.raises(ModelError, match=r"no places for bottleneck adapters are known in \w+: .*; expected layers of"):
        bottleneck.inject(load(tiny_model(kind)), "a", BottleneckConfig())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_new_adapter_changes_nothing_and_a_trained_one_does(kind: str, tiny_model: Any) -> None:
    import torch

    model = load(tiny_model(kind))
    before = logits(model)
    bottleneck.inject(model, "a", BottleneckConfig(size=4))
    assert torch.equal(logits(model), before)
    shake(model, "a", 1)
    assert (logits(model) - before).abs().max() > 0.1
    bottleneck.activate(model, None)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_an_adapter_is_the_residual_network_of_the_paper(activation: str, tiny_model: Any) -> None:
    import torch

    model = load(tiny_model("llama"))
    plain = load(tiny_model("llama"))
    bottleneck.inject(model, "a", BottleneckConfig(size=5, activation=activation, placement="feedforward"))
    shake(model, "a", 2)
    ends, seen = [layer.mlp.down_proj for layer in plain.model.layers], []
    for i, end in enumerate(ends):
        weights = [p.detach() for p in list(bottleneck.trained_parameters(model, "a"))[4 * i : 4 * i + 4]]

        def after(module: Any, given: Any, out: Any, weights: Any = weights) -> Any:
            down, down_bias, up, up_bias = weights
            seen.append(module)
            return out + getattr(torch.nn.functional, activation)(out @ down.T + down_bias) @ up.T + up_bias

        end.register_forward_hook(after)
    assert torch.allclose(logits(model), logits(plain), atol=1e-5)
    assert seen == ends


@pytest.mark.parametrize("base_kind", ["llama", "gpt2", "bloom"])
def test_adapters_stand_side_by_side_in_the_engine(
    base_kind: str, tiny_model: Any, make_bottleneck: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model(base_kind)
    adapters = {
        "a": make_bottleneck(base, 1),
        "b.c": make_bottleneck(base, 2, size=3, activation="relu", placement="attention"),
        "d": make_bottleneck(base, 3, placement="feedforward"),
    }
    engine = make_engine(base, adapters)
    references = {"": plain(base)}
    for name, path in adapters.items():
        references[name] = type(plain(base))(base, None)
        bottleneck.attach(references[name].model, "only", resolve_adapter(str(path)))
        bottleneck.activate(references[name].model, "only")
    names = ("d", "", "a", "b.c", "")
    work = [Work(i, name, "loglikelihood", pairs[7]) for i, name in enumerate(names)]
    work += [Work(5 + i, n, "generate_until", ("The man", {"max_gen_toks": 7})) for i, n in enumerate(names)]
    answers = {answer.id: answer.response for answer in engine.run(work)}
    for i, name in enumerate(names):
        logprob, greedy = references[name].pair(*pairs[7])
        assert answers[i] == (pytest.approx(logprob, abs=2e-5), greedy)
        assert answers[5 + i] == references[name].greedy("The man", 7)
    assert len({answers[i][0] for i in range(5)}) == 4
    lone = ask(make_engine(base), "loglikelihood", pairs)
    assert [a.response for a in ask(engine, "loglikelihood", pairs, BASE)] == [a.response for a in lone]


def test_trimming_the_last_layer_and_chunks_hold_with_adapters(
    tiny_model: Any, make_bottleneck: Any, make_engine: Any, plain: Any, pairs: Any, ask: Any
) -> None:
    base = tiny_model("llama")
    folder = make_bottleneck(base)
    engine = make_engine(base, {"a": folder})
    assert engine.shares_prefixes
    assert engine.tree.trims
    reference = type(plain(base))(base, None)
    bottleneck.attach(reference.model, "only", resolve_adapter(str(folder)))
    bottleneck.activate(reference.model, "only")
    for pair, answer in zip(pairs, ask(engine, "loglikelihood", pairs, "a"), strict=True):
        logprob, greedy = reference.pair(*pair)
        assert answer.response == (pytest.approx(logprob, abs=2e-5), greedy)


def test_equal_adapters_give_equal_files(tiny_model: Any, make_bottleneck: Any) -> None:
    base = tiny_model("llama")
    first, second = make_bottleneck(base, 1), make_bottleneck(base, 1)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    stored = json.loads((first / "adapter_config.json").read_text())
    assert stored["peft_type"] == bottleneck.KIND
    assert stored["size"] == 6
    assert resolve_adapter(str(first)).kind == bottleneck.KIND


def test_heads_are_switched_with_their_adapters(tiny_model: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    base = tiny_model("bert")
    made = {}
    for name, labels in (("two", 2), ("five", 5)):
        torch.manual_seed(labels)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels).eval()
        config = BottleneckConfig(size=4, task_type="SEQ_CLS", modules_to_save=("classifier", "bert.pooler"))
        bottleneck.inject(model, name, config)
        shake(model, name, labels)
        bottleneck.save(model, name, tmp_path / name)
        made[name] = logits(model)
    torch.manual_seed(9)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3).eval()
    before = logits(model)
    for name in made:
        bottleneck.attach(model, name, resolve_adapter(str(tmp_path / name)))
    for name in ("five", "two", "five"):
        bottleneck.activate(model, name)
        assert torch.equal(logits(model), made[name])
    bottleneck.activate(model, None)
    assert torch.equal(logits(model), before)


def test_an_adapter_that_does_not_fit_leaves_nothing_behind(
    tiny_model: Any, make_bottleneck: Any, make_engine: Any, pairs: Any, ask: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = tiny_model("llama")
    good = make_bottleneck(base)
    weights = load_file(good / "adapter_model.safetensors")
    stored = json.loads((good / "adapter_config.json").read_text())
    first = sorted(weights)[0]
    broken = {
        "is missing": ({k: w for k, w in weights.items() if k != first}, stored),
        "is left over": (weights | {"more": weights[first].clone()}, stored),
        r"is \(6, 32\), expected \(7, 32\)": (weights, stored | {"size": 7}),
        "size = '6'; expected a value of type int": (weights, stored | {"size": "6"}),
        "activation 'tanh' of a bottleneck adapter is unknown": (weights, stored | {"activation": "tanh"}),
        "has no module 'score'": (weights, stored | {"modules_to_save": ["score"]}),
    }
    engine = make_engine(base)
    before = [a.response for a in ask(engine, "loglikelihood", pairs[:4])]
    for place, (message, (tensors, config)) in enumerate(broken.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(AdapterError, match=message) as caught:
            engine.attach("wrong", resolve_adapter(str(folder)))
        assert "\n" not in str(caught.value)
    engine.attach("good", resolve_adapter(str(good)))
    assert [a.response for a in ask(engine, "loglikelihood", pairs[:4])] == before
    assert [a.response for a in ask(engine, "loglikelihood", pairs[:4], "good")] != before
    with pytest.raises(AdapterError, match="was it trained on another model"):
        make_engine(tiny_model("gpt2")).attach("other", resolve_adapter(str(good)))


def test_a_size_below_one_is_refused(tiny_model: Any) -> None:
    with pytest.raises(UsageError, match="a bottleneck of size 0 holds nothing"):
        bottleneck.inject(load(tiny_model("llama")), "a", BottleneckConfig(size=0))


def test_half_precision_bases_keep_the_adapter_in_full_precision(tiny_model: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama", dtype="bfloat16"), dtype="auto")
    bottleneck.inject(model, "a", BottleneckConfig(size=4))
    assert {p.dtype for p in bottleneck.trained_parameters(model, "a")} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16
