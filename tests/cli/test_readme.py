"""What the README tells a new user to type about fine-tuning, typed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneboard.cli.main import main


@pytest.fixture
def blocks(root: Path) -> list[str]:
    """The indented blocks of the section."""
    section = (root / "README.md").read_text(encoding="utf-8").partition("## Fine-tune\n")[2].partition("\n## ")[0]
    found: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith("    "):
            found[-1].append(line[4:])
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) + "\n" for lines in found if lines]


def test_the_recipe_of_the_readme_has_ten_lines_and_trains(
    blocks: list[str],
    tmp_path: Path,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, recipe, command, *_ = blocks
    monkeypatch.chdir(tmp_path)
    subprocess.run(["sh", "-c", data], check=True, timeout=60)
    assert len(Path("sums.jsonl").read_text(encoding="utf-8").splitlines()) == 531
    assert len(recipe.splitlines()) == 10
    Path("sums.yaml").write_text(recipe, encoding="utf-8")
    assert yaml.safe_load(recipe)["data"]["sources"] == "sums.jsonl"
    tool, *words = command.split()
    assert tool == "tuneboard" and words[-2:] == ["--evaluate", "quick"]
    assert main([*words[:-2], "--set", f"base={tiny_model('llama')}", "--set", "training.learning_rate=5e-3"]) == 0
    assert "adapters/trained/sums" in capsys.readouterr().out
    merge = next(block for block in blocks if "tuneboard merge" in block).split()
    assert main([*merge[1:], "--quiet"]) == 0


@pytest.mark.accept
@pytest.mark.timeout(1500)
def test_the_offline_way_of_the_readme_works_after_a_demo(
    blocks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import sys

    data, recipe, *rest = blocks
    offline = next(block for block in rest if "results/demo" in block)
    (tmp_path / "sums.yaml").write_text(recipe, encoding="utf-8")
    script = f"""set -e
tuneboard() {{ {sys.executable} -m tuneboard "$@"; }}
tuneboard demo --quiet
{data}
{offline}"""
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=1400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "demo_knowledge" in done.stdout
