"""Rows of a mirrored split under ``map``: those that the datasets library gives, to the last bit and type."""

import importlib
import itertools
import random
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneboard.suites.mirror import Mirror
from tuneboard.suites.split import Split

ROWS = 2300  # two whole batches and a part


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Split:
    table = pa.table(
        {
            "id": pa.array([None if n % 7 == 0 else n for n in range(ROWS)], pa.int32()),
            "text": [None if n < 1000 else f"text {n} ü" for n in range(ROWS)],
            "choices": [["a", "b", str(n)][: n % 4] for n in range(ROWS)],
            "target": [{"labels": [n % 2], "names": [{"start": n, "text": None}]} for n in range(ROWS)],
            "when": pa.array([10**18 + n for n in range(ROWS)], pa.timestamp("ns")),
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


def some_looked_at(row):
    """Rows whose columns were read are stored anew, others as they stand."""
    return {"year": row["when"].year if row["id"] is None else 0, "n": len(row["target"]) if row["text"] is None else 1}


def read_in_other_ways(row):
    first = next(iter(row))
    pairs = sorted(key for key, value in row.items() if isinstance(value, list))
    return row.copy() | {"first": first, "pairs": pairs, "known": "text" in row, "size": len(row), "none": row.get("x")}


def overlaid(row):
    return {"text": "below", "new": "above"} | row


def emptied(row):
    row.popitem()
    row.setdefault("more", 2)
    return {}


class Other(dict):
    """Some mapping."""


def numbered():
    """Count the calls, and answer more keys later on."""
    calls = itertools.count()
    return lambda row: {"call": next(calls), **({"late": 1} if row["id"] == 5 else {})}


def previous():
    """Answer the row before."""
    kept = []
    return lambda row: (kept.append(row), kept[-2] if len(kept) > 1 else row)[1]


def drawn():
    """Draw at random."""
    generator = random.Random(3)
    return lambda row: {"choices": generator.sample(row["choices"], len(row["choices"])), "draw": generator.random()}


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
    some_looked_at,
    read_in_other_ways,
    overlaid,
    emptied,
    lambda row: Other(id=np.int64(3), parts=np.arange(3), frame=np.float32(0.1)),
    lambda row: {"id": 2.5, "choices": None},
    lambda row: {"arrow": pa.array([1]), "id": pa.chunked_array([[7]])},
]
MAKERS = [numbered, previous, drawn]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_gives_what_the_datasets_library_gives(rows: Split, function):
    assert_alike(rows.map(function), datasets.Dataset.map(rows, function))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_so_it_does_on_some_of_the_rows(rows: Split, function):
    some = rows.filter(lambda row: row["id"] is not None)
    assert isinstance(some, Split)
    assert_alike(some.map(function), datasets.Dataset.map(some, function))


@pytest.mark.parametrize("make", MAKERS)
def test_a_function_with_a_state_is_called_once_for_every_row(rows: Split, make):
    assert_alike(rows.map(make()), datasets.Dataset.map(rows, make()))


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda row, n: {"n": n}, {"with_indices": True}),
        (
            lambda batch: {"id": batch["id"][::2]},
            {"batched": True, "remove_columns": ["text", "choices", "target", "when"]},
        ),
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
    assert_alike(rows.map(lambda row: seen.append(row["id"])), rows)
    assert seen == rows["id"][:]


def test_rows_that_are_answered_with_nothing_drop_out_as_in_the_datasets_library(rows: Split):
    def some(row):
        return {"even": 2} if row["id"] != 1501 else None

    assert_alike(rows.map(some), datasets.Dataset.map(rows, some))
    assert len(rows.map(some)) == ROWS - 1


def test_columns_that_are_not_looked_at_keep_what_python_has_no_value_for():
    types = {"big": pa.uint64(), "clock": pa.time64("ns"), "span": pa.duration("ns")}
    table = pa.table({"n": [1, 2]} | {name: pa.array([2**40 + 1, None], kind) for name, kind in types.items()})
    table = table.set_column(1, "big", pa.array([2**64 - 1, 2**63], pa.uint64()))
    split = Split(datasets.table.InMemoryTable(table))
    ours, theirs = (method(split, lambda row: {"n": row["n"] + 1}) for method in (Split.map, datasets.Dataset.map))
    assert ours.with_format("arrow")[:].equals(theirs.with_format("arrow")[:])
    assert ours.with_format("arrow")["clock"].cast(pa.int64()).to_pylist() == [2**40 + 1, None]


async def waited_for(row):
    return {"id": row["id"]}


def test_a_function_that_is_waited_for_is_run_by_the_library(rows: Split):
    assert_alike(rows.map(waited_for), datasets.Dataset.map(rows, waited_for))


def test_pictures_are_left_to_the_library(rows: Split):
    table = pa.table({"n": [1, 2], "picture": [{"bytes": b"broken", "path": "a.jpg"}, None]})
    features = datasets.Features({"n": datasets.Value("int64"), "picture": datasets.Image()})
    split = Split(datasets.table.InMemoryTable(table.cast(features.arrow_schema)), datasets.DatasetInfo(features))
    ours, theirs = (method(split, lambda row: {"m": row["n"]}) for method in (Split.map, datasets.Dataset.map))
    assert ours.with_format("arrow")[:].equals(theirs.with_format("arrow")[:])


@pytest.mark.parametrize(
    "function",
    [
        lambda row: {"odd": 1} if row["id"] == 1501 else {"even": 2},
        lambda row: row.pop("text") and {} if row["id"] == 1501 else {"even": 2},
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
    none = Split(datasets.table.InMemoryTable(rows.data.table.slice(0, 0)), rows.info, rows.split)
    assert_alike(none.map(taken_out), datasets.Dataset.map(none, taken_out))


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
