"""More adapters than there is room for at a time: one engine, every score right."""

from __future__ import annotations

from pathlib import Path

from tiny_models import save_adapter
from with_vllm.both import World, evaluate, largest_difference

COUNT, SLOTS = 32, 4


def test_32_adapters_in_4_slots_score_as_in_transformers(world: World, mirror: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapters = {f"a{i}": save_adapter(tmp_path / f"a{i}", world.base, config, i, 0.3) for i in range(COUNT)}
    many = World(world.base, adapters, tmp_path)
    asked = ["--tasks", "arc_easy,mmlu_machine_learning", "--limit", "4", "--mirror", mirror, "--dtype", "float32"]
    ours = evaluate(tmp_path / "ours.duckdb", "vllm", many.candidates, *asked, "--max-loras", str(SLOTS))
    theirs = evaluate(tmp_path / "theirs.duckdb", "transformers", many.candidates, *asked)
    largest, other = largest_difference(ours, theirs)
    assert largest < 1e-3 and other == 0
    assert len({cell["candidate"] for cell in ours.cells}) == COUNT + 1
