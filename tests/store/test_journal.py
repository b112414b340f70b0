from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneboard.errors import StoreError
from tuneboard.records import Response
from tuneboard.store.journal import Journal, discard_dead, journal_folder, read_answers, read_cut

SCOPE = "5c09e" * 12 + "beef"
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.text(st.characters(exclude_categories=[]))  # lone surrogates and control characters too
RESPONSES = st.one_of(FLOATS, TEXTS, st.tuples(FLOATS, st.booleans()))

ANSWERS: list[tuple[str, Response]] = [
    ("a" * 64, (-1.25, True)),
    ("b" * 64, "two\nlines, an \u00fc, half a pair \ud83d"),
    ("c" * 64, -123.456789),
    ("d" * 64, (-math.inf, False)),
    ("e" * 64, ""),
]


def written(folder: Path, answers: list[tuple[str, Response]] = ANSWERS) -> Path:
    """A journal whose writer is gone."""
    journal = Journal(folder, SCOPE)
    journal.append(answers)
    assert journal.path is not None
    path = journal.path
    journal.close()
    return path


def same(one: Response, other: Response) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(responses=st.lists(RESPONSES, max_size=8))
def test_responses_come_back_exactly(tmp_path: Path, responses: list[Response]) -> None:
    entries = [(f"{i:064x}", response) for i, response in enumerate(responses)]
    path = written(tmp_path, entries) if entries else None
    answers = read_answers(tmp_path, SCOPE)
    assert list(answers) == [request_hash for request_hash, _ in entries]
    assert all(same(answers[request_hash], response) for request_hash, response in entries)
    if path is not None:
        path.unlink()


def test_requests_that_were_cut_are_known_and_older_lines_are_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SCOPE)
    journal.append(ANSWERS[:3], cut={"b" * 64})
    journal.append(ANSWERS[3:], cut={"b" * 64, "e" * 64})
    assert read_answers(tmp_path, SCOPE) == dict(ANSWERS)
    assert read_cut(tmp_path, SCOPE) == {"b" * 64, "e" * 64}
    assert read_cut(tmp_path, "f" * 64) == set()
    lines = journal.path.read_bytes().splitlines()  # type: ignore[union-attr]
    assert [len(json.loads(line[9:])) for line in lines] == [2, 3, 2, 2, 3], "lines of others are as they always were"


def test_numpy_numbers_come_back_as_plain_ones(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    written(tmp_path, [("a", (numpy.float64(-0.1), numpy.bool_(True))), ("b", numpy.float32(0.1))])
    answers = read_answers(tmp_path, SCOPE)
    assert answers["a"] == (-0.1, True)
    assert [type(part) for part in answers["a"]] == [float, bool]  # type: ignore[union-attr]
    assert answers["b"] == float(numpy.float32(0.1))


def test_a_journal_cut_at_any_byte_keeps_every_whole_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == len(ANSWERS)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        # The newline belongs to no answer: a line without it is whole.
        expected = ANSWERS[: sum(length >= end for end in ends)]
        answers = read_answers(tmp_path, SCOPE)
        assert list(answers.items()) == expected


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_never_makes_a_wrong_answer_and_costs_two_lines_at_most(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    answers = read_answers(tmp_path, SCOPE)
    path.unlink()
    assert answers.items() <= dict(ANSWERS).items()
    assert len(answers) >= len(ANSWERS) - 2


def test_a_torn_line_in_the_middle_loses_no_later_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:30] + b"\n" + b"".join(lines[2:]))
    assert dict(ANSWERS[:1] + ANSWERS[2:]) == read_answers(tmp_path, SCOPE)


def test_all_journals_of_a_scope_are_read_and_no_others(tmp_path: Path) -> None:
    written(tmp_path, ANSWERS[:2])
    alive = Journal(tmp_path, SCOPE)
    alive.append(ANSWERS[2:])
    other = Journal(tmp_path, "f" * 64)
    other.append([("z", 1.0)])
    assert read_answers(tmp_path, SCOPE) == dict(ANSWERS)
    assert read_answers(tmp_path, "f" * 64) == {"z": 1.0}
    assert read_answers(tmp_path / "missing", SCOPE) == {}
    alive.close()
    other.close()


def test_no_file_is_made_before_the_first_answer_and_none_stays_after_discard(tmp_path: Path) -> None:
    folder = journal_folder(tmp_path / "x.duckdb")
    assert folder.name == "x.duckdb.journal"
    journal = Journal(folder, SCOPE)
    journal.append([])
    journal.sync()
    assert not folder.exists()
    journal.append(ANSWERS[:1])
    journal.sync()
    assert len(list(folder.iterdir())) == 1
    journal.discard()
    assert list(folder.iterdir()) == []
    journal.append(ANSWERS[1:2])
    assert read_answers(folder, SCOPE) == dict(ANSWERS[1:2])
    journal.discard()


def test_only_journals_of_dead_writers_are_discarded(tmp_path: Path, start) -> None:
    written(tmp_path, ANSWERS[:1])
    mine = Journal(tmp_path, SCOPE)
    mine.append(ANSWERS[1:2])
    other = start(
        """
journal = Journal(Path(sys.argv[1]), sys.argv[2])
journal.append([("other", 1.5)])
print("up", flush=True)
time.sleep(60)
""",
        tmp_path,
        SCOPE,
    )
    assert other.stdout.readline() == "up\n"
    foreign = written(tmp_path / "foreign")
    kept = foreign.rename(tmp_path / ("0" * 64 + ".1-00000000.jsonl"))

    discard_dead(tmp_path, SCOPE)
    assert read_answers(tmp_path, SCOPE) == {**dict(ANSWERS[1:2]), "other": 1.5}

    other.kill()
    other.wait()
    assert read_answers(tmp_path, SCOPE)["other"] == 1.5
    discard_dead(tmp_path, SCOPE)
    assert read_answers(tmp_path, SCOPE) == dict(ANSWERS[1:2])
    assert kept.exists()
    mine.close()


def test_a_full_disk_is_one_clear_line_and_loses_nothing_that_was_written(tmp_path: Path, start) -> None:
    """A limit on the file size does what a full disk does: a part of the write, then an error."""
    process = start(
        """
import resource
from tuneboard.errors import StoreError
folder, scope = Path(sys.argv[1]), sys.argv[2]
journal = Journal(folder, scope)
journal.append([(f"{i:064x}", float(i)) for i in range(10)])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1150, hard))
try:
    journal.append([(f"{i:064x}", float(i)) for i in range(10, 20)])
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.append([(f"{i:064x}", float(i)) for i in range(20, 30)])
""",
        tmp_path,
        SCOPE,
    )
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert out.startswith("cannot write the journal") and out.count("\n") == 1
    assert "File too large; free or grant space there, then run the same command again" in out
    numbers = sorted(read_answers(tmp_path, SCOPE).values())
    assert [n for n in numbers if n < 10] == [float(i) for i in range(10)]
    assert [n for n in numbers if n >= 20] == [float(i) for i in range(20, 30)]
    partly = [n for n in numbers if 10 <= n < 20]
    assert 0 < len(partly) < 10
    assert partly == [float(i) for i in range(10, 10 + len(partly))]


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write the journal .*/file/journal.* a database elsewhere with --db"):
        Journal(tmp_path / "file" / "journal", SCOPE).append(ANSWERS)
