"""The benchmark's sizes for GPUs, tried on a small shape on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from with_vllm.both import device, environment

pytestmark = pytest.mark.accept

PROGRAM = Path(__file__).parents[2] / "benchmarks/vllm_vs_lm_eval.py"


@pytest.mark.skipif(device() != "cpu", reason="the vllm that is installed here runs on a GPU: measure there")
def test_the_mode_for_gpus_prints_its_table_for_a_small_shape(mirror: Path, tmp_path: Path) -> None:
    words = [PROGRAM, "--gpu", "--device", "cpu", "--shape", "tiny", "--scale", "0.005", "--only", "mmlu"]
    words += ["--mirror", mirror, "--work", tmp_path]
    ended = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment(), check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    (row,) = json.loads((tmp_path / "vllm-tiny-bfloat16/vllm_vs_lm_eval.json").read_text())
    head, tokens, bare = ended.stdout.splitlines()[-3:]
    assert "tiny in bfloat16; matrix products: " in ended.stdout
    assert head.startswith("mmlu 5-shot") and f"lm-eval {row['lm_eval_s']:.1f} s, tuneboard" in head
    assert f"tokens computed {row['computed']:,} / distinct {row['distinct']:,}" in tokens
    assert "tokens/s" in tokens and "% of the matrix-product rate" in tokens
    assert "against bare LLM.generate" in bare
    assert row["lm_eval_s"] > row["bare_s"] > 0
    assert 1 <= row["computed"] / row["distinct"] < 2
    assert 0 < row["rate_share"] < 1
