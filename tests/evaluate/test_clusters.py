"""Documents that share a text: a task names the column, and what is recorded, scored and compared knows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard import stats
from tuneboard.compare import compare
from tuneboard.errors import DataError
from tuneboard.store import queries
from tuneboard.store.pairs import load_scores

TASK = """\
task: shared_legs
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/legs.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}} {{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0, cluster: {column}}}
"""
LONG = "A cat walks by. " * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task of 24 questions on six texts, one of which is long; two questions have no text."""
    rows = [
        {
            "text": [LONG, "b", "c", "d", "e", None][i % 6] if i % 6 < 5 or i < 12 else "f",
            "question": f"How many legs has animal {i}?",
            "choices": ["none", "two", "four"],
            "answer": i % 3,
        }
        for i in range(24)
    ]
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "legs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write(folder: Path, column: str) -> Path:
    (folder / "shared_legs.yaml").write_text(TASK.format(folder=folder, column=column))
    return folder


def test_every_document_has_its_cluster_and_scores_have_clustered_errors(make_bench: Any, folder: Path) -> None:
    bench = make_bench("a")
    evaluation = bench("shared_legs", include_paths=(write(folder, "text"),))
    found = list(queries.samples(bench.db, "base", "shared_legs"))
    clusters = [one["cluster"] for one in found]

    assert clusters[1:5] == clusters[7:11] == ["b", "c", "d", "e"]
    assert clusters[0] == clusters[6] != LONG and len(clusters[0]) == 16
    # Without a text, a question stands alone.
    assert (clusters[5], clusters[11], clusters[17], clusters[23]) == ("document 5", "document 11", "f", "f")

    scores = [one["metrics"]["acc"] for one in found]
    (metric,) = evaluation.results[0].metrics
    stderr, interval = stats.clustered_score(scores, clusters)
    assert (metric.stderr, metric.ci) == (pytest.approx(stderr), pytest.approx(interval))

    row = compare(load_scores(bench.db, "base", ["a"])).candidates[0].tasks[0]
    assert row.effect.test == "t with clustered errors"
    assert row.effect.freedom == len(set(clusters)) - 1


def test_a_column_that_is_not_there_is_one_line(bench: Any, folder: Path) -> None:
    with pytest.raises(DataError, match="'shared_legs' names the cluster column 'passage', which document 0 does not"):
        bench("shared_legs", include_paths=(write(folder, "passage"),))
    assert not bench.db.exists()
