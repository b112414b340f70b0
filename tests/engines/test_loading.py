"""A model that cannot or must not be loaded is refused in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_model
from tuneboard.engines.chat import ChatTemplate
from tuneboard.engines.loading import LoadOptions, load_model, pick_device
from tuneboard.errors import ModelError
from tuneboard.records import ModelRef


def refused(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.fixture
def copy(tiny_model: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def load(folder: Any, **changes: Any) -> Any:
    return load_model(ModelRef(str(folder), **changes), LoadOptions(device="cpu"))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    refused(lambda: resolve_model(ModelRef(str(tmp_path / "nothing"))), "no model at '.*nothing'")
    refused(lambda: load(tmp_path / "nothing"), "no model at '.*nothing'")
    refused(lambda: load("nobody/has-this"), "no model at 'nobody/has-this': neither a local folder nor reachable")


def test_a_folder_without_config(copy: Path) -> None:
    (copy / "config.json").unlink()
    refused(lambda: load(copy), "config.json")
    refused(lambda: resolve_model(ModelRef(str(copy))), "config.json")


@pytest.mark.parametrize("text", ["{", "[]", "", '{"model_type": "no_such_architecture"}', "{}"])
def test_a_broken_config(text: str, copy: Path) -> None:
    (copy / "config.json").write_text(text)
    refused(lambda: load(copy), str(copy))


def test_pickled_weights_are_refused_unless_asked_for(copy: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    says = r"only pickled weights \(pytorch_model.bin\).*--allow-pickle"
    refused(lambda: load(copy), says)
    refused(lambda: resolve_model(ModelRef(str(copy))), says)
    model, _ = load_model(ModelRef(str(copy)), LoadOptions(device="cpu", allow_pickle=True))
    assert sum(p.numel() for p in model.parameters()) > 0


def test_no_weights_at_all(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    refused(lambda: load(copy), "cannot load the model")
    refused(lambda: resolve_model(ModelRef(str(copy))), "has no weights")


@pytest.mark.parametrize("broken", [b"", b"only words, no weights", None])
def test_unreadable_weights(broken: bytes | None, copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if broken is None else broken)
    refused(lambda: load(copy), "the weights in .* are cut off or damaged .*; copy them again")


def test_half_of_the_weights_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    refused(lambda: load(copy), "weight .*layers.1.* is missing")


def test_weights_of_another_shape(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    refused(lambda: load(copy), "cannot load the model|another shape")


def test_code_that_comes_with_a_model_is_refused_unless_asked_for(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (copy / "config.json").write_text(json.dumps(config | own))
    ran = tmp_path / "ran"
    (copy / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    refused(lambda: load(copy), "needs code of its own.*--trust-remote-code")
    assert not ran.exists()


def test_a_tokenizer_that_is_missing(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(lambda: load(copy), f"{copy} has no tokenizer; save the model's own there")


@pytest.mark.parametrize("dtype", ["float8", "int8", "", "torch.float32"])
def test_an_unknown_dtype(dtype: str, copy: Path) -> None:
    refused(
        lambda: load(copy, dtype=dtype), "dtype '.*' is unknown; expected auto, float32, bfloat16, float16, float64"
    )
    refused(lambda: resolve_model(ModelRef(str(copy), dtype=dtype)), "dtype '.*' is unknown")


def test_dtypes_are_honoured(copy: Path) -> None:
    import torch

    assert next(load(copy)[0].parameters()).dtype == torch.float32
    assert next(load(copy, dtype="bfloat16")[0].parameters()).dtype == torch.bfloat16
    assert next(load(copy, dtype="float64")[0].parameters()).dtype == torch.float64


def test_an_unknown_quantization(copy: Path) -> None:
    pytest.importorskip("bitsandbytes")
    refused(lambda: load(copy, quantization="3bit"), "quantization '3bit' is unknown; expected 4bit or 8bit")


def test_a_device_that_is_not_there() -> None:
    refused(lambda: pick_device("cuda:99"), "device 'cuda:99' cannot be used here")


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_a_device_that_nobody_knows(name: str) -> None:
    refused(lambda: pick_device(name), f"device '{name}' is unknown; expected auto, cpu, cuda, cuda:1 or mps")


def test_a_chat_template_that_is_missing(copy: Path, make_engine: Any) -> None:
    engine = make_engine(copy)
    refused(lambda: engine.apply_chat_template([{"role": "user", "content": "hi"}]), "has no chat template")
    engine.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert engine.apply_chat_template([{"role": "user", "content": "hi"}]) == "[user]hi"


def test_a_chat_template_that_refuses_a_prompt_is_named_with_its_model(copy: Path) -> None:
    file = copy / "tokenizer_config.json"
    template = (
        "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('only users') }}{% endif %}{% endfor %}ok"
    )
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    chat = ChatTemplate.of(ModelRef(str(copy)))
    system, user, tool = ({"role": role, "content": "hi"} for role in ("system", "user", "tool"))
    assert chat.apply_chat_template([system, user]) == "ok"
    refused(
        lambda: chat.apply_chat_template([user, tool]),
        f"the chat template of {copy} refuses a prompt: only users; mend it, or leave --apply-chat-template out",
    )


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantized_models_load_and_answer(
    quantization: str, tiny_model: Any, tiny_adapter: Any, make_engine: Any, pairs: Any, ask: Any
) -> None:
    pytest.importorskip("bitsandbytes")
    base = tiny_model("llama_untied")
    try:
        engine = make_engine(base, {"a": tiny_adapter(base)}, quantization=quantization)
    except ModelError as error:
        pytest.skip(f"{quantization} does not load here: {error}")
    for name in ("", "a"):
        answers = ask(engine, "loglikelihood", pairs, name)
        assert all(answer.error is None and answer.response[0] < 0 for answer in answers)
        texts = ask(engine, "generate_until", [("Once", {"until": [], "max_gen_toks": 5})], name)
        assert texts[0].error is None
    full = ask(make_engine(base), "loglikelihood", pairs)
    near = ask(engine, "loglikelihood", pairs)
    assert [a.response for a in near] != [a.response for a in full]
    assert sum(abs(a.response[0] - b.response[0]) for a, b in zip(near, full, strict=True)) / len(pairs) < 2.0
