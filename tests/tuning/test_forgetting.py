"""What a fine-tune of a real model gains and what it forgets, with intervals; replay makes it forget less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

HERE = Path(__file__).parent / "forgetting"
ARTICLES = {
    "path": "EleutherAI/wikitext_document_level",
    "config": "wikitext-2-v1",
    "split": "validation",
    "columns": {"text": "page"},
    "format": "text",
    "limit": 12,
}
LORA = {"name": "lora", "rank": 16, "targets": "all-linear"}


def write_recipe(folder: Path, name: str, base: Path, method: Any, rate: float, *more: Any) -> Path:
    recipe = {
        "name": name,
        "base": str(base),
        "method": method,
        "data": {"sources": [ARTICLES, *more], "max_length": 512},
        "training": {"epochs": 4, "batch_size": 4, "learning_rate": rate},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def tuneboard(folder: Path, mirror: Path, *arguments: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tuneboard", *arguments, "--db", "forgetting.duckdb", "--mirror", str(mirror)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.accept
@pytest.mark.timeout(3000)
def test_a_text_is_learnt_stories_are_forgotten_and_replay_forgets_less(
    tmp_path: Path, mirror: Path, stories260k: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stories = pq.read_table(mirror / "roneneldan/TinyStories/default/train.parquet")["text"].to_pylist()[:200]
    (tmp_path / "stories.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in stories))
    replay = {"path": "stories.jsonl", "format": "text", "replay": True}
    recipes = [
        write_recipe(tmp_path, "lora", stories260k, LORA, 3e-3),
        write_recipe(tmp_path, "full", stories260k, "full", 1e-3),
        write_recipe(tmp_path, "replay", stories260k, LORA, 3e-3, replay),
    ]
    ask = ["--evaluate", str(HERE / "suite.yaml"), "--include-path", str(HERE)]
    for recipe in recipes:
        tuneboard(tmp_path, mirror, "tune", str(recipe), *ask)
    names = [recipe.stem for recipe in recipes]
    out = tuneboard(tmp_path, mirror, "compare", "base", *names, "--suite", str(HERE / "suite.yaml"), "--json")
    rows = {
        (one["name"], row["task"]): row
        for one in json.loads(out)["candidates"]
        for row in one["tasks"]
        if row["metric"] == "word_perplexity"
    }
    with capsys.disabled():
        for (name, task), row in rows.items():
            print(f"\n{name}, {task}: {row['base']:.1f} -> {row['candidate']:.1f}, 95 % of the difference {row['ci']}")
    for name in names:
        assert rows[name, "wiki_articles"]["ci"][1] < 0, f"{name} learnt the articles"
    for name in ("lora", "full"):
        assert rows[name, "stories_heldout"]["ci"][0] > 0, f"{name} forgot stories"
    assert rows["replay", "stories_heldout"]["ci"][1] < rows["lora", "stories_heldout"]["ci"][0], "replay pays less"
