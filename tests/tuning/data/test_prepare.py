import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.data import DataContext, prepare, sniff
from tuneboard.tuning.data.splits import text_identity
from tuneboard.tuning.records import (
    CleaningSpec,
    DataReport,
    DataSpec,
    LeakSpec,
    ModelKind,
    PreparedData,
    SourceSpec,
    SplitSpec,
)

WORDS = ["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "spruce", "yew"]


def sentence(number: int) -> str:
    """One of many texts that share few words."""
    return " ".join(WORDS[(number * k + number // k + k) % len(WORDS)] + str(number * k % 97) for k in range(1, 13))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def texts(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": sentence(n)} for n in range(start, start + count)]


def labelled(start: int = 0, **counts: int) -> list[dict[str, Any]]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [{"text": sentence(start + n), "label": label} for n, label in enumerate(labels)]


def context(folder: Path, kind: ModelKind = "causal", **values: Any) -> DataContext:
    return DataContext(kind, folder, values.pop("mirror", None), values.pop("seed", 0), **values)


def data(*sources: str | SourceSpec, **values: Any) -> DataSpec:
    return DataSpec(tuple(SourceSpec(source) if isinstance(source, str) else source for source in sources), **values)


def counted(report: DataReport) -> dict[str, int]:
    return {step.name: step.removed for step in report.steps if step.removed}


def assert_sums(prepared: PreparedData, read: int) -> None:
    """Every row that was read is trained on, validated on or counted as removed; repeats are counted as flagged."""
    report = prepared.report
    added = sum(step.flagged for step in report.steps if step.name.startswith("repeats"))
    removed = sum(step.removed for step in report.steps)
    assert report.train == len(prepared.train) and report.validation == len(prepared.validation)
    assert report.train + report.validation + removed - added == read
    assert sum(report.mixture.values()) == report.train


def test_rows_become_examples_and_each_step_is_counted(tmp_path: Path) -> None:
    rows = texts(50)
    write(tmp_path / "a.jsonl", [*rows, rows[3], rows[4], {"text": "  "}])
    prepared = prepare(data("a.jsonl"), context(tmp_path))
    assert (prepared.report.train, prepared.report.validation) == (45, 5)
    assert {e.text for e in (*prepared.train, *prepared.validation)} == {row["text"] for row in rows}
    assert prepared.report.sources[0].rows == 53
    assert prepared.report.sources[0].format == "text"
    assert_sums(prepared, 53)
    assert sum(counted(prepared.report).values()) == 3


def test_one_recipe_is_one_result_and_names_of_files_do_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", texts(40))
    first, again = (prepare(data("a.jsonl"), context(tmp_path)) for _ in range(2))
    assert first == again
    renamed = prepare(data("b.jsonl"), context(tmp_path))
    assert sorted(e.text for e in renamed.train) == sorted(e.text for e in first.train)
    assert first.report.sha256 != prepare(data("a.jsonl"), context(tmp_path, seed=1)).report.sha256


def test_the_hash_is_over_all_examples(tmp_path: Path) -> None:
    rows = texts(40)
    write(tmp_path / "a.jsonl", rows)
    before = prepare(data("a.jsonl"), context(tmp_path)).report.sha256
    write(tmp_path / "a.jsonl", [*rows[:39], {"text": rows[39]["text"] + "!"}])
    assert prepare(data("a.jsonl"), context(tmp_path)).report.sha256 != before


def test_the_same_data_in_another_process_have_the_same_hash(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", labelled(x=30, y=30))
    program = (
        "from pathlib import Path; from tuneboard.tuning.data import *; from tuneboard.tuning.records import *\n"
        f"spec = DataSpec((SourceSpec('a.jsonl'),), split=SplitSpec('stratified'), limit=20)\n"
        f"print(prepare(spec, DataContext('classification', Path({str(tmp_path)!r}), None, 0)).report.sha256)"
    )
    command = [sys.executable, "-c", program]
    hashes = {
        subprocess.run(
            command,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            text=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_weights_replay_and_limit_shape_the_mixture(tmp_path: Path) -> None:
    write(tmp_path / "new.jsonl", texts(40))
    write(tmp_path / "old.jsonl", texts(200, start=1000))
    spec = data(
        SourceSpec("new.jsonl", weight=1), SourceSpec("old.jsonl", weight=1, replay=True), split=SplitSpec(fraction=0.2)
    )
    prepared = prepare(spec, context(tmp_path))
    assert prepared.report.validation == 8
    assert {e.place.split()[0] for e in prepared.validation} == {"new.jsonl"}
    assert prepared.report.mixture == {"new.jsonl": 32, "old.jsonl": 32}
    assert_sums(prepared, 240)
    limited = prepare(replace(spec, limit=20), context(tmp_path))
    assert limited.report.mixture == {"new.jsonl": 10, "old.jsonl": 10}
    assert set(limited.train) < set(prepared.train)
    assert limited.validation == prepared.validation
    assert counted(limited.report)["limit"] == prepared.report.train - 20


def test_a_source_limit_is_drawn_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", texts(100))
    spec = data(SourceSpec("a.jsonl", limit=30), split=SplitSpec(by="none"))
    prepared = prepare(spec, context(tmp_path))
    assert counted(prepared.report)["limit of a.jsonl"] == 70
    assert (prepared.report.train, prepared.report.sources[0].rows) == (30, 100)
    assert set(prepared.train) != set(prepare(spec, context(tmp_path, seed=1)).train)


def test_one_file_can_be_two_sources(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", [{"de": sentence(n), "en": sentence(n + 500)} for n in range(20)])
    there = SourceSpec("pairs.jsonl", columns={"completion": "en"}, template="German: {de}\nEnglish:")
    back = SourceSpec("pairs.jsonl", columns={"completion": "de"}, template="English: {en}\nGerman:")
    prepared = prepare(data(there, back, split=SplitSpec(by="none")), context(tmp_path))
    assert prepared.report.mixture == {"pairs.jsonl": 20, "pairs.jsonl#2": 20}
    assert Counter(e.text.split()[0] for e in prepared.train) == {"German:": 20, "English:": 20}
    assert all(e.answer.startswith(" ") for e in prepared.train)


def test_a_validation_source_stands_apart(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", texts(30))
    write(tmp_path / "valid.jsonl", [*texts(5, start=28), {"text": ""}])
    prepared = prepare(data("train.jsonl", validation=SourceSpec("valid.jsonl")), context(tmp_path))
    assert (prepared.report.train, prepared.report.validation) == (28, 5)
    assert counted(prepared.report)["also in validation"] == 2
    assert any(step.name.startswith("validation: ") and step.removed == 1 for step in prepared.report.steps)
    assert [source.path for source in prepared.report.sources] == ["train.jsonl", "valid.jsonl"]
    assert prepared.report.mixture == {"train.jsonl": 28}
    assert_sums(prepared, 36)


def test_a_validation_source_that_is_all_of_training_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", texts(5))
    with pytest.raises(DataError, match="all 5 training rows stand in the validation source too"):
        prepare(data("a.jsonl", validation=SourceSpec("a.jsonl")), context(tmp_path))
    with pytest.raises(UsageError, match="replay is never validated on"):
        prepare(data("a.jsonl", validation=SourceSpec("a.jsonl", replay=True)), context(tmp_path))
    with pytest.raises(UsageError, match="all sources are replay"):
        prepare(data(SourceSpec("a.jsonl", replay=True)), context(tmp_path))


def test_a_validation_split_of_nothing_says_how_many_rows_there_are(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", texts(3))
    with pytest.raises(DataError, match="of 3 rows, sets no row apart for validation"):
        prepare(data("a.jsonl"), context(tmp_path))


def test_nothing_but_empty_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": ""}, {"text": " "}])
    with pytest.raises(DataError, match="cleaning left no row of 2"):
        prepare(data("a.jsonl"), context(tmp_path))


def test_classes_are_the_sorted_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", labelled(pos=30, neg=20, mixed=10))
    prepared = prepare(data("a.jsonl", split=SplitSpec("stratified")), context(tmp_path, "classification"))
    assert prepared.labels == ("mixed", "neg", "pos")
    assert prepared.report.labels == {"mixed": 9, "neg": 18, "pos": 27}
    assert {e.format for e in prepared.train} == {"label"}


def test_classes_that_are_numbers_come_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", labelled(**{str(n): 5 for n in (10, 2, 0, 1)}))
    prepared = prepare(data("a.jsonl", split=SplitSpec("none")), context(tmp_path, "classification"))
    assert prepared.labels == ("0", "1", "2", "10")


def test_labels_are_answers_for_a_causal_model(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", labelled(pos=20, neg=20))
    prepared = prepare(data("a.jsonl", split=SplitSpec("stratified")), context(tmp_path))
    assert prepared.labels == ()
    assert prepared.report.labels == {"neg": 18, "pos": 18}
    assert {(e.format, e.answer) for e in prepared.train} == {("completion", " pos"), ("completion", " neg")}
    prepared = prepare(data("a.jsonl"), context(tmp_path, "seq2seq"))
    assert {e.answer for e in prepared.train} == {"pos", "neg"}


@pytest.mark.parametrize(("how", "train"), [("undersample", 20), ("oversample", 80)])
def test_labels_are_evened_out_in_training_alone(tmp_path: Path, how: Any, train: int) -> None:
    write(tmp_path / "a.jsonl", labelled(a=50, b=13))
    spec = data("a.jsonl", split=SplitSpec("stratified", fraction=0.2), cleaning=CleaningSpec(balance=how))
    prepared = prepare(spec, context(tmp_path, "classification"))
    assert prepared.report.labels == {"a": train // 2, "b": train // 2}
    assert Counter(e.answer for e in prepared.validation) == {"a": 10, "b": 3}
    assert_sums(prepared, 63)


def test_balance_without_labels_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", texts(20))
    with pytest.raises(UsageError, match="evens out labels, and the data have none"):
        prepare(data("a.jsonl", cleaning=CleaningSpec(balance="oversample")), context(tmp_path))


def test_labels_that_only_validation_has_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", labelled(x=10, y=10))
    write(tmp_path / "v.jsonl", labelled(start=300, x=2, z=1))
    with pytest.raises(DataError, match=r"1 labels of validation stand in no training row: 'z' \(v\.jsonl line 3\)"):
        prepare(data("a.jsonl", validation=SourceSpec("v.jsonl")), context(tmp_path, "classification"))


def test_one_label_is_no_classification(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", labelled(x=20))
    with pytest.raises(DataError, match="all 18 training rows have the label 'x'; expected two or more"):
        prepare(data("a.jsonl"), context(tmp_path, "classification"))


@pytest.mark.parametrize("kind", ["classification", "seq2seq"])
def test_a_format_that_a_kind_cannot_learn_is_refused(tmp_path: Path, kind: ModelKind) -> None:
    write(tmp_path / "a.jsonl", texts(20))
    with pytest.raises(UsageError, match=rf"a\.jsonl is in the format text, and kind: {kind}"):
        prepare(data("a.jsonl"), context(tmp_path, kind))


def test_the_latest_rows_of_a_column_validate(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{**row, "day": f"2024-02-{29 - n:02}"} for n, row in enumerate(texts(20))])
    prepared = prepare(data("a.jsonl", split=SplitSpec("time", 0.1, column="day")), context(tmp_path))
    assert [e.place for e in prepared.validation] == ["a.jsonl line 1", "a.jsonl line 2"]
    with pytest.raises(DataError, match=r"no column 'date' \(data\.split\.column\); .*its columns: text, day"):
        prepare(data("a.jsonl", split=SplitSpec("time", column="date")), context(tmp_path))


def test_replay_needs_no_column_to_split_by(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{**row, "day": n} for n, row in enumerate(texts(20))])
    write(tmp_path / "old.jsonl", texts(10, start=100))
    spec = data("a.jsonl", SourceSpec("old.jsonl", replay=True), split=SplitSpec("time", 0.1, column="day"))
    prepared = prepare(spec, context(tmp_path))
    assert [e.place for e in prepared.validation] == ["a.jsonl line 19", "a.jsonl line 20"]
    assert prepared.report.mixture == {"a.jsonl": 18, "old.jsonl": 10}


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """A folder with the task ``toy``, whose items are the texts 0 to 9."""
    folder = tmp_path / "tasks"
    write(folder / "items.jsonl", [{"question": sentence(n), "word": f"answer{n}"} for n in range(10)])
    task = {
        "task": "toy",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "word",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(task))
    return folder


def leaking(tmp_path: Path, benchmark: Path, **leaks: Any) -> PreparedData:
    write(
        tmp_path / "a.jsonl",
        [{"text": f"Look: {sentence(4).upper()} indeed."}, *texts(40, start=100), *texts(1, start=7)],
    )
    spec = data("a.jsonl", split=SplitSpec(by="none"), leaks=LeakSpec(**leaks))
    return prepare(spec, context(tmp_path, benchmarks=("toy",), include_paths=(benchmark,)))


def test_leaks_are_removed_and_listed(tmp_path: Path, benchmark: Path) -> None:
    prepared = leaking(tmp_path, benchmark)
    assert {(leak.task, leak.doc_id, leak.place) for leak in prepared.report.leaks} == {
        ("toy", 4, "a.jsonl line 1"),
        ("toy", 7, "a.jsonl line 42"),
    }
    assert prepared.report.train == 40
    assert [(step.removed, step.places) for step in prepared.report.steps if step.name == "leaks"] == [
        (2, ("a.jsonl line 1", "a.jsonl line 42"))
    ]


def test_leaks_can_stay_and_be_listed(tmp_path: Path, benchmark: Path) -> None:
    prepared = leaking(tmp_path, benchmark, policy="list")
    assert (prepared.report.train, len(prepared.report.leaks)) == (42, 2)
    assert [(step.removed, step.flagged) for step in prepared.report.steps if step.name == "leaks"] == [(0, 2)]


def test_leaks_can_be_refused(tmp_path: Path, benchmark: Path) -> None:
    with pytest.raises(
        UsageError, match=r"the data hold 2 items .*toy item 4 in a\.jsonl line 1, toy item 7 in a\.jsonl"
    ):
        leaking(tmp_path, benchmark, policy="refuse")


def test_the_recipe_says_what_to_check_against(tmp_path: Path, benchmark: Path) -> None:
    with pytest.raises(UsageError, match="toys"):
        leaking(tmp_path, benchmark, against=("toys",))


def test_nothing_is_checked_where_nothing_will_be_evaluated(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", texts(40))
    assert prepare(data("a.jsonl"), context(tmp_path)).report.leaks == ()


def test_fields_without_text_are_counted_and_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": sentence(n), "completion": f"word {n}"} for n in range(20)]
    odd: list[dict[str, Any]] = [
        {"prompt": 5, "completion": None},
        {"prompt": None, "completion": "x"},
        {"prompt": "y", "completion": float("nan")},
    ]
    write(tmp_path / "a.jsonl", [*rows, *odd])
    report = prepare(data("a.jsonl"), context(tmp_path)).report
    (step,) = [step for step in report.steps if step.name == "fields without text in a.jsonl"]
    assert (step.removed, step.flagged) == (0, 4)
    assert step.places == (
        "a.jsonl line 21 (completion holds nothing)",
        "a.jsonl line 21 (prompt holds int)",
        "a.jsonl line 22 (prompt holds nothing)",
        "a.jsonl line 23 (completion holds nothing)",
    )
    assert counted(report) == {"empty rows": 2}
    templated = prepare(data(SourceSpec("a.jsonl", template="> {prompt}")), context(tmp_path)).report
    assert [step.flagged for step in templated.steps if step.name.startswith("fields")] == [2]
    write(tmp_path / "a.jsonl", rows)
    assert not any(step.name.startswith("fields") for step in prepare(data("a.jsonl"), context(tmp_path)).report.steps)


def test_sniffing_reads_a_few_rows_of_the_first_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 30 + "broken\n")
    spec = data("a.jsonl", "missing.jsonl")
    assert sniff(spec, tmp_path, None) == "completion"
    with pytest.raises(DataError, match="line 31 is not JSON"):
        prepare(spec, context(tmp_path))
    with pytest.raises(DataError, match="there is no file"):
        sniff(data("missing.jsonl"), tmp_path, None)


def test_importing_and_reading_lines_loads_no_heavy_library(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", texts(30))
    program = (
        "import sys; from pathlib import Path\n"
        "from tuneboard.tuning.data import *; from tuneboard.tuning.records import *\n"
        f"sniff(DataSpec((SourceSpec('a.jsonl'),)), Path({str(tmp_path)!r}), None)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'pandas', 'lm_eval', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, text=True, capture_output=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.timeout(60)
def test_the_time_grows_with_the_rows_and_not_with_their_square(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": f"number {n}", "completion": str(n)} for n in range(20_000)])
    spec = data("a.jsonl", cleaning=CleaningSpec(near_duplicates=None))
    assert prepare(spec, context(tmp_path)).report.train == 18_000


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (SourceSpec("openai/gsm8k", "main", limit=1000), "causal"),
        (SourceSpec("cornell-movie-review-data/rotten_tomatoes", limit=1000), "classification"),
        (SourceSpec("teknium/GPTeacher", limit=1000), "seq2seq"),
        (SourceSpec("roneneldan/TinyStories"), "causal"),
    ],
)
def test_real_data_are_prepared(mirror: Path, tmp_path: Path, source: SourceSpec, kind: ModelKind) -> None:
    if not (mirror / source.path / (source.config or "default") / "train.parquet").is_file():
        pytest.skip(f"the mirror lacks {source.path}")
    prepared = prepare(data(source), context(tmp_path, kind, mirror=mirror))
    assert_sums(prepared, prepared.report.sources[0].rows)
    assert prepared.report.validation == pytest.approx(
        0.1 * (prepared.report.train + prepared.report.validation), abs=1
    )
    assert not {text_identity(e) for e in prepared.train} & {text_identity(e) for e in prepared.validation}
    assert len(prepared.labels) == (2 if kind == "classification" else 0)
