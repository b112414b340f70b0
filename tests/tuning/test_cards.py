from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tuneboard.records import AdapterRef, Candidate, MetricValue, ModelRef
from tuneboard.tuning.cards import add_scores, merged_card, model_card, score_cards

build = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "store" / "builders.py")))

PROVENANCE: dict[str, Any] = {
    "made_by": "tuneboard",
    "name": "mine",
    "kind": "causal",
    "method": {"name": "lora", "options": {"rank": 8, "targets": ["q_proj", "v_proj"]}},
    "base": {"id": "org/base"},
    "recipe": {
        "description": "Says *what* | for.",
        "training": {"schedule": "cosine", "warmup": 0.03, "batch_size": 8, "seed": 4},
    },
    "data": {
        "sources": [{"path": "train.jsonl", "rows": 1200, "format": "chat"}],
        "steps": [{"name": "exact duplicates", "removed": 3, "flagged": 0, "places": []}],
        "leaks": [{"task": "gsm8k", "doc_id": 4}, {"task": "gsm8k", "doc_id": 4}],
        "train": 1100,
        "validation": 97,
    },
    "training": {
        "first_validation_loss": 2.5,
        "validation_loss": 1.25,
        "steps": 300,
        "epochs": 2.0,
        "best_step": 250,
        "tokens": 123456,
        "seconds": 61.0,
        "cpu_seconds": 100.0,
        "peak_memory_gib": 1.5,
        "trained_parameters": 1000,
        "total_parameters": 100000,
    },
    "warnings": ["the loss diverges"],
    "serving": [{"engine": "vllm", "takes": "as it is", "note": "--enable-lora"}],
}


def front(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(model_card(PROVENANCE), encoding="utf-8")
    (tmp_path / "provenance.json").write_text(json.dumps(PROVENANCE), encoding="utf-8")
    return tmp_path


def candidate(folder: Path) -> Candidate:
    return Candidate("mine", ModelRef("org/base", sha256="w"), AdapterRef(str(folder), "a", "LORA"))


def test_a_card_says_what_the_candidate_is_made_of() -> None:
    text = model_card(PROVENANCE)
    assert front(text) == {
        "base_model": "org/base",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tuneboard", "lora"],
    }
    for said in ("1,000 of 100,000 parameters (1.00%)", "2.5000 before, 1.2500 after", "1,200 rows, chat", "3 removed"):
        assert said in text
    assert "| benchmark items found | 1 |" in text and "- the loss diverges" in text
    assert "Not evaluated yet." in text


def test_the_hub_reads_the_card_and_its_scores(folder: Path) -> None:
    from huggingface_hub import ModelCard

    assert add_scores(folder, [build.make_result(candidate(folder))])
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "org/base"
    first = card.data.eval_results[0]
    assert (first.task_type, first.dataset_name, first.metric_type) == ("text-generation", "toy", "acc")
    assert isinstance(first.metric_value, float)


def test_scores_are_written_once_and_replaced_by_newer_ones(folder: Path) -> None:
    result = build.make_result(candidate(folder))
    assert add_scores(folder, [result])
    once = (folder / "README.md").read_text(encoding="utf-8")
    assert not add_scores(folder, [result])
    assert (folder / "README.md").read_text(encoding="utf-8") == once
    better = replace(result, metrics=(MetricValue("acc", "none", 0.75, 0.1, (0.5, 0.9), True),))
    other = build.make_result(candidate(folder), build.make_task("other"))
    assert add_scores(folder, [better, other])
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "0.7500 | [0.5000, 0.9000]" in text and "Not evaluated yet." not in text
    assert [one["dataset"]["name"] for one in front(text)["model-index"][0]["results"]] == ["other", "toy"]
    assert text.count("| toy |") == 1
    assert "## Training" in text and "## Serving" in text, "the rest of the card stays"


def test_failed_results_and_members_of_groups_are_left_out(folder: Path) -> None:
    mine = candidate(folder)
    group = build.make_result(mine, build.make_task("toys"), kind="group", samples=(), members=("toy",))
    failed = build.make_result(mine, build.make_task("bad"), status="failed", metrics=(), samples=(), reason="no")
    assert add_scores(folder, [build.make_result(mine), group, failed])
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| toys |" in text and "| toy |" not in text and "bad" not in text
    assert not add_scores(folder, [failed])


@pytest.mark.parametrize("text", [None, "no front matter", "---\n[: \n---\nx", "---\na: 1\n---\nwritten by hand\n"])
def test_a_card_that_is_not_ours_is_left_alone(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert not add_scores(tmp_path, [build.make_result(candidate(tmp_path))])
    assert text is None or (tmp_path / "README.md").read_text(encoding="utf-8") == text


def test_only_candidates_that_tune_made_get_scores(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    foreign = tmp_path_factory.mktemp("foreign")
    (foreign / "README.md").write_text(model_card(PROVENANCE), encoding="utf-8")
    (foreign / "provenance.json").write_text('{"made_by": "somebody"}', encoding="utf-8")
    other = Candidate("other", ModelRef("org/base", sha256="w"), AdapterRef(str(foreign), "b", "LORA"))
    before = (foreign / "README.md").read_bytes()
    assert score_cards([build.make_result(candidate(folder)), build.make_result(other), build.make_result()]) == []
    assert (foreign / "README.md").read_bytes() == before
    assert "model-index" in front((folder / "README.md").read_text(encoding="utf-8"))


def test_a_merged_models_card_says_how_near_it_is(tmp_path: Path) -> None:
    merged = {"adapter": "mine", "adapter_type": "LORA", "difference": 2e-6, "quantization": "4bit"}
    content = PROVENANCE | {"name": "whole", "merged": {**merged, "quantized_difference": 0.3}}
    text = merged_card(content)
    assert front(text)["base_model_relation"] == "quantized"
    assert "2e-06" in text and "differ by 0.3" in text
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert add_scores(tmp_path, [build.make_result(candidate(tmp_path))])
