import socket
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneboard.config import SuiteTask
from tuneboard.errors import DataError, UsageError
from tuneboard.suites import TaskRequest, load_tasks
from tuneboard.suites.mirror import Mirror

NESTED = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int32()),
        "text": ["a", "ü", None],
        "targets": [{"choices": ["x", "y"], "labels": [1, 0]}, {"choices": [], "labels": []}, None],
        "answers": [[{"text": "t", "start": 3}], [], [{"text": "u", "start": None}]],
    }
)


@pytest.fixture
def toy_mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror" / "org" / "toy" / "default"
    folder.mkdir(parents=True)
    rows = {"question": [f"q{n}" for n in range(8)], "choices": [["a", "b"]] * 8, "answer": [0, 1] * 4}
    pq.write_table(pa.table(rows), folder / "test.parquet")
    return tmp_path / "mirror"


def hub_task(folder, name: str, **changes) -> str:
    settings = {"dataset_path": "org/toy", "dataset_kwargs": None}
    return folder.task(name, **settings | changes)


def load(folder, mirror: Path, *names: str, **settings):
    tasks = tuple(SuiteTask(name) for name in names)
    return load_tasks(TaskRequest(tasks, include_paths=(folder.root,), mirror=mirror, **settings))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args, **settings):
        raise AssertionError(f"tried to reach {args} {settings}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets, "load_dataset", refuse)


def test_rows_and_features_equal_those_of_the_datasets_library(tmp_path: Path):
    file = tmp_path / "m" / "org" / "nested" / "default" / "test.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(NESTED, file)
    theirs = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path / "hf"))
    ours = Mirror(tmp_path / "m").open("org/nested", None, "test", "t")["test"]
    assert ours.features == theirs.features
    assert list(ours) == list(theirs)
    assert ours[1] == theirs[1]
    assert ours.map(lambda row: {"id": 5})[0] == theirs.map(lambda row: {"id": 5})[0]


def test_real_rows_equal_those_of_the_datasets_library(mirror: Path, tmp_path: Path):
    for path, config, split in (
        ("cais/mmlu", "anatomy", "dev"),
        ("openai/gsm8k", "main", "test"),
        ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
        ("lighteval/squad_v2", None, "validation"),
    ):
        file = str(Mirror(mirror).file(path, config, split))
        theirs = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "hf"))
        ours = Mirror(mirror).open(path, config, split, "t")[split]
        assert ours.features == theirs.features
        assert ours[:50] == theirs[:50]


def test_nothing_is_fetched_where_the_data_set_stands(folder, toy_mirror: Path, no_network):
    hub_task(folder, "toy", training_split="train", fewshot_split=None)
    loaded = load(folder, toy_mirror, "toy")
    assert loaded.refs["toy"].n_docs == 8
    assert loaded.tasks["toy"].eval_docs[0]["question"] == "q0"


def test_splits_that_are_not_read_may_be_missing(folder, toy_mirror: Path):
    hub_task(folder, "toy")
    loaded = load(folder, toy_mirror, "toy")
    assert set(loaded.tasks["toy"].dataset) == {"test"}


def test_missing_few_shot_split_is_named_once_examples_are_asked_for(folder, toy_mirror: Path):
    hub_task(folder, "toy")
    with pytest.raises(DataError, match=r"task 'toy' reads split 'train'.*org/toy/default/train\.parquet") as caught:
        load(folder, toy_mirror, "toy", num_fewshot=2)
    assert "\n" not in str(caught.value)


def test_missing_data_set_names_the_file_looked_for(folder, toy_mirror: Path, no_network):
    hub_task(folder, "toy", dataset_path="org/gone", dataset_name="part")
    with pytest.raises(DataError, match=r"no file .*org/gone/part/test\.parquet"):
        load(folder, toy_mirror, "toy")


def test_unreadable_parquet_is_named(folder, toy_mirror: Path):
    (toy_mirror / "org/toy/default/test.parquet").write_bytes(b"PAR1 no more")
    hub_task(folder, "toy")
    with pytest.raises(DataError, match=r"test\.parquet is not a readable parquet file"):
        load(folder, toy_mirror, "toy")


def test_mirror_that_is_no_folder_is_refused(folder, tmp_path: Path):
    folder.task("toy")
    with pytest.raises(UsageError, match=r"--mirror .* is no folder"):
        load(folder, tmp_path / "gone", "toy")


def test_local_files_are_read_beside_a_mirror(folder, toy_mirror: Path):
    folder.task("local")
    assert load(folder, toy_mirror, "local").refs["local"].n_docs == 6


def test_files_on_the_web_are_refused_with_a_mirror(folder, toy_mirror: Path, no_network):
    folder.task("web", dataset_kwargs={"data_files": {"test": "https://example.org/test.jsonl"}})
    with pytest.raises(DataError, match=r"example\.org.*nothing is fetched"):
        load(folder, toy_mirror, "web")


def test_data_set_opened_whole_shows_every_split(toy_mirror: Path):
    splits = Mirror(toy_mirror).open("org/toy", None, "test", "t")
    assert list(splits) == ["test"]
    assert splits.read == {}
    assert [len(rows) for rows in splits.values()] == [8]
    assert {name: len(rows) for name, rows in splits.map(lambda row: row).items()} == {"test": 8}


def test_task_written_in_python_reads_the_mirror(mirror: Path, no_network):
    loaded = load_tasks(TaskRequest((SuiteTask("squadv2"),), mirror=mirror))
    assert loaded.refs["squadv2"].n_docs == 1000
    assert loaded.refs["squadv2"].config["class"]["function"] == "SquadV2"


def test_hellaswag_loads_without_its_training_split(mirror: Path, no_network):
    loaded = load_tasks(TaskRequest((SuiteTask("hellaswag"),), mirror=mirror))
    assert loaded.refs["hellaswag"].n_docs == 10042
    assert loaded.refs["hellaswag"].num_fewshot == 0


def test_mmlu_loads_whole_with_all_its_groups(mirror: Path, no_network):
    loaded = load_tasks(TaskRequest((SuiteTask("mmlu", num_fewshot=5, role="guard"),), mirror=mirror))
    assert len(loaded.tasks) == 57
    assert set(loaded.groups) == {"mmlu", "mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"}
    assert sum(ref.n_docs for ref in loaded.refs.values()) == 14042
    assert set(loaded.roles.values()) == {"guard"}
    assert {"mmlu", "mmlu_stem", "mmlu_anatomy"} <= set(loaded.roles)
