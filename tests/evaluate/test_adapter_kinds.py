"""``tuneboard evaluate`` with adapters of virtual tokens and with bottlenecks, beside LoRA, in the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard.cli.main import main


def save_bottleneck(folder: Path, base: Path, spread: float) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    from tuneboard.engines import bottleneck
    from tuneboard.engines.bottleneck_files import BottleneckConfig

    model = AutoModelForCausalLM.from_pretrained(base)
    bottleneck.inject(model, "made", BottleneckConfig(size=4))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in bottleneck.trained_parameters(model, "made"):
            parameter.add_(torch.randn_like(parameter) * spread)
    bottleneck.save(model, "made", folder)
    return folder


def test_all_kinds_of_adapters_are_evaluated_in_one_call(
    tiny_model: Any, tiny_adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from peft import PrefixTuningConfig, PromptTuningConfig

    monkeypatch.chdir(tmp_path)
    base = tiny_model("llama")
    virtual: dict[str, Any] = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
    adapters = {
        "lora": tiny_adapter(base),
        "prefix": tiny_adapter(base, PrefixTuningConfig(**virtual)),
        "prefix2": tiny_adapter(base, PrefixTuningConfig(**virtual), 2),
        "prompt": tiny_adapter(base, PromptTuningConfig(**virtual)),
        "bottleneck": save_bottleneck(tmp_path / "b", base, 0.3),
        "untrained": save_bottleneck(tmp_path / "u", base, 0.0),
    }
    named = [word for name, path in adapters.items() for word in ("--adapter", f"{name}={path}")]
    tasks = ["--tasks", "demo_knowledge,demo_math", "--limit", "4", "--device", "cpu", "--db", "r.duckdb", "--json"]
    assert main(["evaluate", "--model", str(base), *named, *tasks]) == 2
    found = json.loads(capsys.readouterr().out)
    cells = {(cell["candidate"], cell["task"]): cell for cell in found["cells"]}
    assert len(cells) == 2 * (len(adapters) + 1)
    for (name, _), cell in cells.items():
        assert cell["status"] == ("invalid" if name == "untrained" else "done")
        assert cell["failed"] == 0
        assert name == "untrained" or cell["n"] == 4
    assert "adapter 'untrained' was not applied" in cells["untrained", "demo_math"]["reason"]
