import csv
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneboard.datafiles import Table, read_table
from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.data.sources import read_source, source_names
from tuneboard.tuning.records import SourceSpec


def read(folder: Path, path: str, mirror: Path | None = None, most: int | None = None, **spec) -> Table:
    source = SourceSpec(path, **spec)
    return read_source(source, source_names([source])[0], (folder, mirror), most)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_jsonl_rows_know_their_lines_and_blank_lines_count(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '\ufeff{"text": "one"}\n\n{"text": "two", "id": 2}\n')
    table = read(tmp_path, "a.jsonl")
    assert table.columns == ("text", "id")
    assert table.rows == ((1, {"text": "one"}), (3, {"text": "two", "id": 2}))
    assert table.place(3) == "a.jsonl line 3"


def test_a_hash_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    file = write(tmp_path / "a.jsonl", '{"text": "one"}\n')
    assert read(tmp_path, "a.jsonl").sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "is not JSON"),
        (b'["a"]', "holds list"),
        (b"3", "holds int"),
        (b'{"text": "\xff"}', "is not UTF-8"),
        (rb'{"text": "\ud83d"}', "surrogate"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_line_that_does_not_parse_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    write(tmp_path / "sub" / "bad.jsonl", b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"sub/bad\.jsonl line 2 .*{reason}") as caught:
        read(tmp_path, "sub/bad.jsonl")
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_line_of_json_is_told_by_its_place_in_the_line(tmp_path: Path) -> None:
    write(tmp_path / "bad.jsonl", b'{"text": "fine"}\n{"text": "a" "b"}\n{"text": \n')
    with pytest.raises(DataError, match=r"line 2 is not JSON \(Expecting ',' delimiter at character 14\)"):
        read(tmp_path, "bad.jsonl")


def test_a_line_of_csv_that_is_not_utf_8_is_named_however_far_the_reader_has_read_ahead(tmp_path: Path) -> None:
    rows = b"".join(b"row %d,yes\n" % number for number in range(2, 1501))
    write(tmp_path / "bad.csv", b"text,label\n" + rows + b"caf\xe9,no\n" + rows)
    with pytest.raises(DataError, match=r"bad\.csv line 1501 is not UTF-8"):
        read(tmp_path, "bad.csv")


def test_a_json_file_is_an_array_or_lines(tmp_path: Path) -> None:
    write(tmp_path / "array.json", json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    write(tmp_path / "lines.json", '{"text": "a"}\n{"text": "b"}\n')
    assert [row for _, row in read(tmp_path, "array.json").rows] == [
        row for _, row in read(tmp_path, "lines.json").rows
    ]
    write(tmp_path / "broken.json", '[{"text": "a"}, 7]')
    with pytest.raises(DataError, match=r"broken\.json row 2 holds int"):
        read(tmp_path, "broken.json")


def test_csv_cells_may_hold_line_breaks_and_rows_know_where_they_start(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 'text,label\r\n"two\r\nlines",yes\r\nplain,no\r\n')
    table = read(tmp_path, "a.csv")
    assert table.rows == ((2, {"text": "two\r\nlines", "label": "yes"}), (4, {"text": "plain", "label": "no"}))


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", ","), ("a.csv", "\t")])
def test_separators_are_told_by_the_header(tmp_path: Path, name: str, separator: str) -> None:
    write(tmp_path / name, separator.join(["text", "label"]) + "\n" + separator.join(["x", "y"]) + "\n")
    assert read(tmp_path, name).rows == ((2, {"text": "x", "label": "y"}),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\nfine,yes\nno label\n", r"a\.csv line 3 has 1 cells and the header 2 columns"),
        ('text,label\nfine,yes\n"open,no\nx,y\n', r"a\.csv line 3 is not CSV"),
        ("text,text\na,b\n", r"a\.csv line 1 should name the columns, each once"),
        ("", r"a\.csv line 1 should name the columns"),
        ("text\n", r"a\.csv holds no rows"),
    ],
)
def test_broken_csv_is_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "a.csv", text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, "a.csv")


def test_csv_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "text\ncafé\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path, "a.csv")


def test_a_long_cell_is_read_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")
    assert len(read(tmp_path, "a.csv").rows[0][1]["text"]) == 200_000
    assert csv.field_size_limit() == before


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=20)


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_what_was_written_is_read_in_every_format(tmp_path_factory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("same")
    wanted = [{"text": text, "label": label} for text, label in rows]
    write(folder / "a.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in wanted))
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["text", "label"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(wanted)
    pq.write_table(pa.Table.from_pylist(wanted), folder / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert [row for _, row in read_table(folder / name, name).rows] == wanted


def test_class_numbers_become_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    assert [row["label"] for _, row in read(tmp_path, "a.parquet").rows] == ["good", "bad", None]


def test_metadata_of_other_tools_is_left_alone(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({b"huggingface": b"[oops"})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path, "a.parquet").rows == ((1, {"text": "a", "label": 1}),)


def test_a_broken_parquet_file_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", b"PAR1 not really")
    with pytest.raises(DataError, match=r"a\.parquet is not a readable Parquet file") as caught:
        read(tmp_path, "a.parquet")
    assert "\n" not in str(caught.value)


def test_a_missing_file_lists_near_matches(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "{}")
    write(tmp_path / "notes.txt", "")
    with pytest.raises(DataError, match=r"there is no file .*trian\.jsonl; did you mean train\.jsonl\?"):
        read(tmp_path, "trian.jsonl")
    with pytest.raises(DataError, match=r"the folder holds train\.jsonl$"):
        read(tmp_path, "something_else.csv")
    with pytest.raises(DataError, match=r"there is no folder"):
        read(tmp_path, "nowhere/train.jsonl")
    with pytest.raises(DataError, match=r"is a folder; name one file of it: train\.jsonl"):
        read(tmp_path, "./")


def test_a_file_of_another_kind_is_refused_with_the_known_suffixes(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "hello")
    with pytest.raises(DataError, match=r"notes\.txt .*\.jsonl, \.ndjson, \.json, \.csv, \.tsv, \.parquet"):
        read(tmp_path, "notes.txt")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_a_few_rows_can_be_read_alone(tmp_path: Path, name: str) -> None:
    rows = [{"text": f"t{n}"} for n in range(50)]
    write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "a.json", json.dumps(rows))
    write(tmp_path / "a.csv", "text\n" + "".join(f"t{n}\n" for n in range(50)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row for _, row in read(tmp_path, name, most=3).rows] == rows[:3]


def mirrored(root: Path, place: str, rows: list[dict[str, str]]) -> None:
    file = root / f"{place}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **settings):
        raise AssertionError(f"asked the hub for {args}")

    monkeypatch.setattr(datasets, "load_dataset", refuse)


@pytest.mark.usefixtures("no_hub")
def test_the_mirror_wins_over_the_hub(tmp_path: Path) -> None:
    mirrored(tmp_path / "m", "org/set/default/train", [{"text": "from the mirror"}])
    mirrored(tmp_path / "m", "org/set/main/test", [{"text": "main"}])
    assert read(tmp_path, "org/set", tmp_path / "m").rows == ((1, {"text": "from the mirror"}),)
    table = read(tmp_path, "org/set", tmp_path / "m", config="main", split="test")
    assert (table.rows, table.place(1)) == (((1, {"text": "main"}),), "org/set main test row 1")


@pytest.mark.usefixtures("no_hub")
def test_what_the_mirror_lacks_is_said_with_what_it_has(tmp_path: Path) -> None:
    mirrored(tmp_path / "m", "org/set/main/train", [{"text": "x"}])
    with pytest.raises(DataError, match=r"lacks org/set/default/train\.parquet; of org/set it holds .*main/train"):
        read(tmp_path, "org/set", tmp_path / "m")
    with pytest.raises(DataError, match=r"did you mean org/set\?"):
        read(tmp_path, "org/sets", tmp_path / "m")
    with pytest.raises(UsageError, match=r"--mirror .* is no folder"):
        read(tmp_path, "org/set", tmp_path / "none")


def test_a_data_set_of_the_hub_is_read_with_its_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    asked = []

    def load(path, config, split):
        asked.append((path, config, split))
        return datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    table = read(tmp_path, "org/set", split="test")
    assert asked == [("org/set", None, "test")]
    assert table.rows == ((1, {"text": "a", "label": "yes"}), (2, {"text": "b", "label": "no"}))
    assert len(table.sha256) == 64
    assert table.sha256 != read(tmp_path, "org/set", most=1).sha256


def test_what_the_hub_does_not_give_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "stories.jsonl", '{"text": "x"}')
    with pytest.raises(DataError, match=r"'stories' is no file in .* did you mean the file stories\.jsonl\?") as caught:
        read(tmp_path, "stories")
    assert "\n" not in str(caught.value)


def test_sources_of_one_name_are_told_apart() -> None:
    specs = [SourceSpec("a.jsonl"), SourceSpec("org/set", "main"), SourceSpec("a.jsonl"), SourceSpec("a.jsonl")]
    assert source_names(specs) == ("a.jsonl", "org/set main train", "a.jsonl#2", "a.jsonl#3")


@pytest.mark.parametrize(
    ("path", "config", "rows"),
    [
        ("openai/gsm8k", "main", 7473),
        ("cornell-movie-review-data/rotten_tomatoes", None, 8530),
        ("teknium/GPTeacher", None, 1923),
        ("roneneldan/TinyStories", None, None),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_real_data_sets_are_read_whole(
    mirror: Path, tmp_path: Path, path: str, config: str | None, rows: int | None
) -> None:
    file = mirror / path / (config or "default") / "train.parquet"
    if not file.is_file():
        pytest.skip(f"the mirror lacks {path}")
    table = read(tmp_path, path, mirror, config=config)
    assert len(table.rows) == (rows or pq.ParquetFile(file).metadata.num_rows)
