from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneboard.store import facts, listing, queries

small = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "leaderboard" / "small.py")))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("listing") / "tuneboard.duckdb"
    small.fill(db)
    return db


def test_an_empty_database_is_not_filled(db: Path, filled: Path) -> None:
    from tuneboard.store.database import writing

    with writing(db):
        pass
    assert not listing.is_filled(db)
    assert listing.is_filled(filled)
    assert listing.listed_candidates(db) == [] and listing.listed_scores(db) == [] and listing.listed_tasks(db) == {}


def test_every_candidate_has_its_base(filled: Path) -> None:
    found = {one.name: one for one in listing.listed_candidates(filled)}
    assert {name: one.base for name, one in found.items()} == {
        "base": "base",
        "mine": "base",
        "forgetful": "base",
        "vague": "base",
        "large": "large",
        "large-full": "large",
        "large-ia3": "large",
        small.ODD_NAME: "large",
    }
    assert {name: one.kind for name, one in found.items() if one.kind != "adapter"} == {
        "base": "base",
        "large": "base",
        "large-full": "checkpoint",
    }


def test_methods_sizes_and_precision_come_from_trainings_and_newest_results(filled: Path) -> None:
    found = {one.name: one for one in listing.listed_candidates(filled)}
    assert {name: one.method for name, one in found.items()} == {
        "base": None,
        "mine": "lora",
        "forgetful": "lora",
        "vague": "lora",
        "large": None,
        "large-full": "full",
        "large-ia3": "ia3",
        small.ODD_NAME: "lora",
    }
    assert (found["mine"].parameters, found["mine"].trained_parameters) == (1_050_000, 50_000)
    # Trainings on a base tell its size, and that of its other adapters.
    assert found["base"].parameters == found["vague"].parameters == 1_000_000
    assert (found["large"].quantization, found["large"].dtype) == ("4bit", "bfloat16")


def test_a_checkpoint_without_training_stands_under_the_base_that_it_was_evaluated_beside(db: Path) -> None:
    from tuneboard.records import Candidate, ModelRef

    store = small.Store(db)
    run = store.start_run(small.provenance("tuneboard evaluate"))
    base = small.result("base", "hellaswag", 10)
    one = Candidate("merged", ModelRef("models/merged", None, "float32", None, "w-merged"))
    other = small.replace(base, candidate=one, key=small.replace(base.key, candidate=one.fingerprint))
    store.commit_all(run, [base, other])
    assert {found.name: found.base for found in listing.listed_candidates(db)} == {"base": "base", "merged": "base"}


def test_scores_are_those_of_the_newest_cells(filled: Path) -> None:
    scores = listing.listed_scores(filled, ["gsm8k", "mmlu"])
    expected = {
        (row.cell.candidate, row.cell.task, row.metric.metric, row.metric.filter): (row.cell.id, row.metric)
        for row in queries.metrics(filled)
        if row.cell.task in ("gsm8k", "mmlu")
    }
    assert {
        (one.candidate, one.task, one.metric.metric, one.metric.filter): (one.cell, one.metric) for one in scores
    } == expected
    assert {one.n for one in scores if one.task == "gsm8k"} == {small.N_DOCS}
    assert {one.candidate for one in listing.listed_scores(filled, candidate="mine")} == {"mine"}


def test_tasks_come_with_the_members_of_groups(filled: Path) -> None:
    tasks = listing.listed_tasks(filled)
    assert list(tasks)[:2] == ["mmlu", "mmlu_stem"]
    assert set(tasks["mmlu"]) == {f"mmlu_{subject}" for subject in small.SUBJECTS}
    assert tasks["gsm8k"] == ()


def test_history_holds_every_finished_evaluation_oldest_first(filled: Path) -> None:
    moments = [
        one for one in listing.history(filled, ["gsm8k"]) if (one.candidate, one.filter) == ("mine", "strict-match")
    ]
    assert [one.created for one in moments] == sorted(one.created for one in moments)
    assert len(moments) == 2
    assert len(listing.history(filled, ["gsm8k"], last=1)) == 2 * len(small.CHANGES)


def test_evaluations_of_a_candidate_name_their_runs(filled: Path) -> None:
    rows = listing.evaluations(filled, "mine")
    assert {row.n for row in rows if row.task == "gsm8k"} == {40, small.N_DOCS}
    found = facts.run_facts(filled, rows[0].run)
    assert found is not None and found["engine"]["name"] == "transformers"
    assert facts.run_facts(filled, "nothing") is None
    assert listing.evaluations(filled, "nobody") == []
    found = facts.candidate_facts(filled, "mine")
    assert found is not None and found["adapter_sha256"] == "a-mine"
    assert facts.candidate_facts(filled, "nobody") is None


def test_the_newest_cost_of_a_candidate_is_told(filled: Path) -> None:
    from tuneboard.gates import Cost
    from tuneboard.store.costs import keep_costs

    weights = small.candidate("mine").fingerprint
    assert facts.newest_cost(filled, weights) is None
    for memory in (1.0, 2.0):
        keep_costs(filled, "requests", {weights: Cost(100.0, 0.5, memory, "a machine")})
    assert facts.newest_cost(filled, weights) == Cost(100.0, 0.5, 2.0, "a machine")
