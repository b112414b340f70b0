from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneboard.records import AdapterRef, Candidate, ModelRef
from tuneboard.store.training import TrainingFigures, TrainingStart, TrainingStore
from tuneboard.store.trainings import bound_elsewhere, find_trainings, training_curve
from tuneboard.store.writes import Store

BASE = ModelRef("models/tiny", dtype="float32", sha256="w0")
FIGURES = TrainingFigures(
    steps=20,
    epochs=2.0,
    seconds=3.5,
    cpu_seconds=6.0,
    tokens=4000,
    loss=1.5,
    first_validation_loss=3.0,
    validation_loss=1.25,
    best_step=15,
    trained_parameters=100,
    total_parameters=1000,
    peak_memory_gib=0.5,
    resumed=1,
    warnings=("few rows",),
)
CURVE = [(1, 0.1, "loss", 3.0), (2, 0.2, "loss", float("nan")), (2, 0.2, "validation_loss", 2.5)]


@pytest.fixture
def store(tmp_path: Path) -> TrainingStore:
    return TrainingStore(tmp_path / "x.duckdb")


def begin(**changes: Any) -> TrainingStart:
    given = {
        "name": "mine",
        "fingerprint": "f1",
        "method": "lora",
        "kind": "causal",
        "base": BASE,
        "seed": 3,
        "recipe": {"method": "lora", "options": {"rank": 4}},
        "data": {"train": 10},
        "versions": {"torch": "2"},
        "hardware": {"cores": 2},
        "command": "tuneboard tune r.yaml",
        "git_commit": "abc",
    }
    return TrainingStart(**given | changes)


def test_what_is_recorded_of_a_training_is_found_again(store: TrainingStore) -> None:
    run = store.start(begin())
    assert run.startswith("tune-20")
    store.finish(run, "candidate-1", Path("adapters/trained/mine"), FIGURES, CURVE)
    (row,) = find_trainings(store.path, fingerprint="f1")
    assert (row.id, row.name, row.status, row.reason) == (run, "mine", "done", None)
    assert (row.base_id, row.base_sha256, row.seed, row.git_commit) == ("models/tiny", "w0", 3, "abc")
    assert row.recipe == {"method": "lora", "options": {"rank": 4}}
    assert (row.data, row.versions, row.hardware) == ({"train": 10}, {"torch": "2"}, {"cores": 2})
    assert row.folder == "adapters/trained/mine"
    assert row.figures == FIGURES
    assert find_trainings(store.path, candidate="candidate-1") == [row]
    assert find_trainings(store.path, fingerprint="f2") == []


def test_a_curve_keeps_its_order_and_numbers_that_are_none(store: TrainingStore) -> None:
    run = store.start(begin())
    store.record_curve(run, CURVE)
    store.record_curve(run, CURVE)
    curve = training_curve(store.path, run)
    assert [point[:3] for point in curve] == [(1, 0.1, "loss"), (2, 0.2, "loss"), (2, 0.2, "validation_loss")]
    assert curve[0][3] == 3.0 and curve[1][3] != curve[1][3]


def test_a_killed_training_stays_unfinished_and_goes_on_under_its_id(store: TrainingStore) -> None:
    run = store.start(begin())
    (row,) = find_trainings(store.path)
    assert (row.status, row.figures, row.finished) == ("unfinished", None, None)
    assert store.start(begin(command="again")) == run
    (again,) = find_trainings(store.path)
    assert (again.command, again.started) == ("again", row.started)


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_failed_training_keeps_its_reason_until_it_goes_on(store: TrainingStore, status: str) -> None:
    run = store.start(begin())
    store.fail(run, status, "no space", CURVE)
    (row,) = find_trainings(store.path)
    assert (row.status, row.reason, row.figures) == (status, "no space", None)
    assert len(training_curve(store.path, run)) == 3
    assert store.start(begin()) == run
    (row,) = find_trainings(store.path)
    assert (row.status, row.reason) == ("unfinished", None)


def test_a_finished_training_is_not_taken_up_again(store: TrainingStore) -> None:
    first = store.start(begin())
    store.finish(first, "c", Path("mine"), FIGURES, [])
    assert store.start(begin()) != first
    assert store.start(begin(name="other")) != first
    assert [row.id for row in find_trainings(store.path)][-1] == first


def test_a_name_is_bound_elsewhere_unless_this_training_made_what_it_stands_for(store: TrainingStore) -> None:
    assert not bound_elsewhere(store.path, "mine", "f1")
    candidate = Candidate("mine", BASE, AdapterRef("adapters/mine", "a1", "LORA"))
    Store(store.path).register(candidate)
    assert bound_elsewhere(store.path, "mine", "f1")
    store.finish(store.start(begin()), candidate.fingerprint, Path("mine"), FIGURES, [])
    assert not bound_elsewhere(store.path, "mine", "f1")
    assert bound_elsewhere(store.path, "mine", "f2")
    assert not bound_elsewhere(store.path, "other", "f1")


def test_texts_that_utf8_cannot_hold_are_kept_as_escapes(store: TrainingStore) -> None:
    run = store.start(begin(name="m\udcff", command="tune \udcff"))
    store.fail(run, "failed", "\udcff", [])
    (row,) = find_trainings(store.path)
    assert row.reason == "\\udcff"
