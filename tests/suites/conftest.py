import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ROWS = [
    {"question": f"What is {n} and {n}?", "choices": [str(2 * n), str(n), "x"], "answer": 0, "word": f"w{n}"}
    for n in range(12)
]


@pytest.fixture(scope="session", autouse=True)
def _shared_index(tmp_path_factory: pytest.TempPathFactory):
    """The index of lm-eval's own tasks is read once for all tests here, and not from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


class TaskFolder:
    """A folder of task YAML with a data set beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.data("train", ROWS[:6])
        self.data("test", ROWS[6:])

    def data(self, split: str, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.root / f"{split}.jsonl").write_text(text)

    def task(self, name: str, **changes: Any) -> str:
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"train": "train.jsonl", "test": "test.jsonl"}},
            "output_type": "multiple_choice",
            "training_split": "train",
            "test_split": "test",
            "fewshot_split": "train",
            "doc_to_text": "Q: {{question}}\nA:",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": 1.0},
        } | changes
        config = {key: value for key, value in config.items() if value is not None}
        self.write(f"{name}.yaml", yaml.safe_dump(config, sort_keys=False))
        return name

    def generating(self, name: str, **changes: Any) -> str:
        settings = {
            "output_type": "generate_until",
            "doc_to_choice": None,
            "doc_to_target": "word",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        }
        return self.task(name, **settings | changes)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    return TaskFolder(tmp_path / "own")
