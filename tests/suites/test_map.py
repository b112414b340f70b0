"""Rows of a mirrored split under ``map``: those that the datasets library gives, to the last bit and type."""

import importlib
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneboard.suites.mirror import Mirror, Split

ROWS = 2300  # two whole batches and a part


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Split:
    table = pa.table(
        {
            "id": pa.array([None if n % 7 == 0 else n for n in range(ROWS)], pa.int32()),
            "text": [None if n < 1000 else f"text {n} ü" for n in range(ROWS)],
            "choices": [["a", "b", str(n)][: n % 4] for n in range(ROWS)],
            "target": [{"labels": [n % 2], "names": [{"start": n, "text": None}]} for n in range(ROWS)],
        }
    )
    root = tmp_path_factory.mktemp("mirror")
    (root / "org/toy/default").mkdir(parents=True)
    pq.write_table(table, root / "org/toy/default/test.parquet")
    return Mirror(root).open("org/toy", None, "test", "t")["test"]


def assert_alike(ours: datasets.Dataset, theirs: datasets.Dataset) -> None:
    assert ours.column_names == theirs.column_names
    assert ours.features == theirs.features
    assert ours.split == theirs.split
    assert ours.to_list() == theirs.to_list()
    assert ours.with_format("arrow")[:].equals(theirs.with_format("arrow")[:])


def changed_in_place(row):
    row["text"] = f"{row['text']}!"
    row["choices"].append("c")
    return row


def changed_in_place_beside_an_answer(row):
    row["choices"].append("c")
    row["more"] = 1.5
    return {"text": "new", "gold": row["id"]}


def taken_out(row):
    del row["text"]
    return {"n": len(row.pop("choices"))}


def late_type(row):
    return {"late": [] if row["text"] is None else [row["text"]]}


FUNCTIONS = [
    lambda row: {"query": f"{row['id']}: {row['text']}", "choices": [c.upper() for c in row["choices"]], "gold": 1},
    lambda row: {"id": str(row["id"])},
    lambda row: {**row, "target": row["target"]["names"]},
    lambda row: row,
    lambda row: {},
    changed_in_place,
    changed_in_place_beside_an_answer,
    taken_out,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_gives_what_the_datasets_library_gives(rows: Split, function):
    assert_alike(rows.map(function), datasets.Dataset.map(rows, function))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_so_it_does_after_other_steps(rows: Split, function):
    some = rows.filter(lambda row: row["id"] is not None).shuffle(seed=3).select(range(1200))
    plain = datasets.Dataset.select(rows, range(ROWS)).filter(lambda row: row["id"] is not None)
    assert_alike(some.map(function), plain.shuffle(seed=3).select(range(1200)).map(function))


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda row, n: {"n": n}, {"with_indices": True}),
        (lambda batch: {"id": batch["id"][::2]}, {"batched": True, "remove_columns": ["text", "choices", "target"]}),
        (lambda row: {"n": 1}, {"remove_columns": ["text"]}),
        (lambda text: {"long": text is not None}, {"input_columns": ["text"]}),
        (lambda row: {"id": 1}, {"features": datasets.Features({"id": datasets.Value("int8")})}),
    ],
)
def test_options_are_honoured(rows: Split, function, options):
    rows = rows.select_columns(["id"]) if "features" in options else rows
    assert_alike(rows.map(function, **options), datasets.Dataset.map(rows, function, **options))


def test_a_function_that_answers_nothing_leaves_the_rows(rows: Split):
    seen = []
    assert rows.map(lambda row: seen.append(row["id"])).to_list() == rows.to_list()
    assert seen[-ROWS:] == rows["id"][:]


@pytest.mark.parametrize(
    "function",
    [
        lambda row: {"odd": 1} if row["id"] == 1501 else {"even": 2},
        lambda row: "no dictionary",
        lambda row: {"n": 1 / (row["id"] or 0)},
        lambda row: {"n": row["missing"]},
        late_type,
    ],
)
def test_a_function_that_fails_fails_as_in_the_datasets_library(rows: Split, function):
    with pytest.raises(Exception) as theirs:
        datasets.Dataset.map(rows, function)
    with pytest.raises(theirs.type) as ours:
        rows.map(function)
    assert str(ours.value) == str(theirs.value)


def test_no_rows_stay_no_rows(rows: Split):
    assert_alike(rows.select([]).map(taken_out), datasets.Dataset.map(rows.select([]), taken_out))


@pytest.mark.parametrize(
    ("folder", "function", "data", "split"),
    [
        ("hellaswag.utils", "process_docs", ("Rowan/hellaswag", None), "validation"),
        ("truthfulqa.utils", "process_docs_gen", ("truthfulqa/truthful_qa", "generation"), "validation"),
        ("llama3.instruct.arc_challenge.utils", "process_docs", ("allenai/ai2_arc", "ARC-Challenge"), "test"),
    ],
)
def test_documents_of_real_tasks_equal_those_of_the_datasets_library(mirror: Path, folder, function, data, split):
    process_docs = getattr(importlib.import_module(f"lm_eval.tasks.{folder}"), function)
    rows = Mirror(mirror).open(*data, split, "t")[split]
    plain = datasets.Dataset(rows.data, info=rows.info.copy(), split=rows.split)
    assert_alike(process_docs(rows), process_docs(plain))
