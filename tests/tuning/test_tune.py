from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from full_disk import no_file_above

from tuneboard.candidates import resolve_adapter, resolve_model
from tuneboard.errors import AdapterError, DataError, StoreBusy, StoreError, UsageError
from tuneboard.records import AdapterRef, Candidate, ModelRef
from tuneboard.store import queries
from tuneboard.store.training import TrainingStore
from tuneboard.store.trainings import find_trainings, training_curve
from tuneboard.store.writes import Store
from tuneboard.tuning import publishing


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_recipe_becomes_a_candidate_with_its_history(workshop: Any, make_ear: Any) -> None:
    ear = make_ear()
    (made,) = workshop.tune(ear=ear, command="tuneboard tune recipe.yaml")
    assert (made.name, made.status, made.folder) == ("mine", "trained", workshop.out / "mine")
    adapter = resolve_adapter(str(made.folder))
    assert adapter.kind == "LORA"
    assert {"README.md", "provenance.json", "adapter_config.json"} <= set(files(made.folder))
    facts = workshop.provenance()
    assert facts["recipe"]["method"] == "lora" and facts["method"]["options"]["rank"] == 4
    given, resolved = facts["method"]["options"], facts["method"]["resolved"]
    assert (given["alpha"], given["targets"]) == (None, "auto"), "as the recipe says it"
    assert resolved == {**given, "alpha": 8, "targets": ["q_proj", "v_proj"]}, "and as it was carried out"
    assert facts["recipe"]["base"]["sha256"] == facts["base"]["sha256"] != ""
    assert facts["data"]["sources"][0]["rows"] == 40 and len(facts["data"]["sources"][0]["sha256"]) == 64
    assert (facts["data"]["train"], facts["data"]["validation"]) == (36, 4)
    trained = facts["training"]
    assert 0 < trained["trained_parameters"] < trained["total_parameters"]
    assert trained["validation_loss"] < trained["first_validation_loss"]
    assert trained["tokens"] > 0 and trained["seconds"] > 0 and trained["peak_memory_gib"] > 0
    assert {"torch", "peft", "python"} <= set(facts["versions"]) and facts["hardware"]["cores"]
    assert facts["command"] == "tuneboard tune recipe.yaml" and facts["seed"] == 0
    assert facts["warnings"] and any("training examples" in line for line in facts["warnings"])
    assert {name for _, _, name, _ in facts["curve"]} >= {"loss", "validation_loss", "learning_rate"}
    assert made.provenance == facts
    assert not (workshop.out / ".work" / "mine").exists()
    assert ear.steps == list(range(1, trained["steps"] + 1))

    (row,) = find_trainings(workshop.db)
    assert (row.id, row.status, row.method, row.kind) == (facts["training_run"], "done", "lora", "causal")
    assert row.figures is not None and row.figures.validation_loss == trained["validation_loss"]
    assert row.recipe == facts["recipe"] and row.data == facts["data"]
    assert len(training_curve(workshop.db, row.id)) == len(facts["curve"])
    (model,) = queries.models(workshop.db)
    assert (model.name, model.fingerprint, model.adapter_sha256) == ("mine", row.candidate_fingerprint, adapter.sha256)


def test_the_same_recipe_gives_the_same_bytes(workshop: Any) -> None:
    recipe = workshop.recipe()
    for out in ("one", "two"):
        workshop.tune(recipe, out=workshop.root / out, db=workshop.root / f"{out}.duckdb")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (workshop.root / "one/mine" / name).read_bytes() == (workshop.root / "two/mine" / name).read_bytes()
    config = (workshop.root / "one/mine/adapter_config.json").read_text(encoding="utf-8")
    assert str(workshop.models["llama"].parent) not in config, "the place of the base is no part of an adapter"
    (other,) = workshop.tune(recipe, settings=(("training.seed", "1"), ("name", "other")))
    first = (workshop.root / "one/mine/adapter_model.safetensors").read_bytes()
    assert (other.folder / "adapter_model.safetensors").read_bytes() != first


def test_a_finished_candidate_is_reused_and_entered_where_it_is_unknown(workshop: Any, make_ear: Any) -> None:
    (first,) = workshop.tune()
    before, ear = files(first.folder), make_ear()
    (again,) = workshop.tune(ear=ear, db=workshop.root / "new.duckdb")
    assert (again.status, again.provenance, ear.steps) == ("reused", first.provenance, [])
    assert any("reused" in line for line in ear.notes)
    assert files(first.folder) == before
    (row,) = find_trainings(workshop.root / "new.duckdb")
    assert (row.status, row.folder) == ("done", str(first.folder))
    workshop.tune(db=workshop.root / "new.duckdb")
    assert len(find_trainings(workshop.root / "new.duckdb")) == 1


def test_a_candidate_whose_weights_are_gone_or_changed_is_not_taken_for_made(workshop: Any) -> None:
    (first,) = workshop.tune()
    weights = first.folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UsageError, match=r"holds other weights than 'mine' was made with; remove it"):
        workshop.tune()
    weights.unlink()
    with pytest.raises(UsageError, match=r"has no adapter_model.safetensors.*remove .* to train 'mine' again"):
        workshop.tune()
    weights.write_bytes(content)
    (again,) = workshop.tune()
    assert again.status == "reused"


def test_another_recipe_under_the_name_of_a_candidate_is_refused(workshop: Any) -> None:
    (first,) = workshop.tune()
    before = files(first.folder)
    for change in (("method.rank", "2"), ("training.epochs", "1"), ("data.limit", "20")):
        with pytest.raises(UsageError, match=r"made by another recipe.*--set name=mine-2"):
            workshop.tune(settings=(change,))
    assert files(first.folder) == before
    assert [row.status for row in find_trainings(workshop.db)] == ["done"]
    (other,) = workshop.tune(settings=(("data.limit", "20"), ("name", "mine-2")))
    assert other.status == "trained"


def test_a_folder_that_tune_did_not_make_is_left_alone(workshop: Any) -> None:
    (workshop.out / "mine").mkdir(parents=True)
    (workshop.out / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match="was not made by tuneboard tune"):
        workshop.tune()
    assert files(workshop.out / "mine") == {"notes.txt": b"precious"}


def test_a_name_that_stands_for_other_weights_is_refused_before_training(workshop: Any, make_ear: Any) -> None:
    base = ModelRef("elsewhere", sha256="w")
    Store(workshop.db).register(Candidate("mine", base, AdapterRef("a", "a", "LORA")))
    ear = make_ear()
    with pytest.raises(UsageError, match=r"bound to other weights.*--set name=mine-2.*tuneboard rename mine"):
        workshop.tune(ear=ear)
    assert ear.steps == [] and not (workshop.out / "mine").exists()


def test_the_trials_of_a_sweep_go_on_when_one_fails(workshop: Any, make_ear: Any) -> None:
    over = {"method.targets": [["q_proj"], ["no_such"], ["v_proj"]]}
    ear = make_ear()
    made = workshop.tune(workshop.recipe(sweep={"over": over}, training__epochs=1), ear=ear)
    assert [one.status for one in made] == ["trained", "failed", "trained"]
    assert "no module 'no_such'" in made[1].reason and made[1].folder is None
    assert [line.rpartition(" ")[2] for line in ear.begun] == ["1/3", "2/3", "3/3"]
    assert any("failed: " in line for line in ear.notes)
    statuses = {row.name: row.status for row in find_trainings(workshop.db)}
    assert list(statuses.values()) == ["done", "done"], "the faulty one never began"
    assert {place.name for place in workshop.out.glob("[!.]*")} == {made[0].name, made[2].name}


def test_a_recipe_that_was_mended_after_it_diverged_just_runs(workshop: Any) -> None:
    with pytest.raises(UsageError, match=r"not a number.*lower training.learning_rate"):
        workshop.tune(workshop.recipe(method="full", training__learning_rate=1e30, training__clip=0))
    (row,) = find_trainings(workshop.db)
    assert (row.status, "not a number" in str(row.reason)) == ("failed", True)
    assert training_curve(workshop.db, row.id)
    assert not (workshop.out / "mine").exists()
    (made,) = workshop.tune(workshop.recipe(method="full", training__learning_rate=1e-3))
    assert made.status == "trained"


def test_an_interrupted_training_goes_on_to_the_same_bytes(workshop: Any, make_ear: Any) -> None:
    recipe = workshop.recipe(training__checkpoint_every=5)
    workshop.tune(recipe, out=workshop.root / "undisturbed", db=workshop.root / "other.duckdb")
    with pytest.raises(KeyboardInterrupt, match=r"same command again: 'mine' goes on from step 5$"):
        workshop.tune(recipe, ear=make_ear(stop_at=8))
    (row,) = find_trainings(workshop.db)
    assert (row.status, row.figures) == ("interrupted", None)
    assert training_curve(workshop.db, row.id), "what was seen of it is kept"
    assert not (workshop.out / "mine").exists()
    ear = make_ear()
    (made,) = workshop.tune(recipe, ear=ear)
    assert made.status == "trained" and ear.steps[0] == 6
    assert made.provenance["training"]["resumed"] == 1
    (again,) = find_trainings(workshop.db)
    assert (again.id, again.status) == (row.id, "done")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        undisturbed = workshop.root / "undisturbed/mine" / name
        assert (made.folder / name).read_bytes() == undisturbed.read_bytes()


def test_checkpoints_of_another_recipe_are_refused_and_kept(workshop: Any, make_ear: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        workshop.tune(workshop.recipe(training__checkpoint_every=5), ear=make_ear(stop_at=8))
    with pytest.raises(UsageError, match="another recipe"):
        workshop.tune(workshop.recipe(training__checkpoint_every=5, training__learning_rate=1e-3))
    ear = make_ear()
    workshop.tune(workshop.recipe(training__checkpoint_every=5), ear=ear)
    assert ear.steps[0] == 6, "the refused recipe cost nothing"


def test_an_interrupted_training_without_a_checkpoint_makes_room_for_another_recipe(
    workshop: Any, make_ear: Any
) -> None:
    with pytest.raises(KeyboardInterrupt, match="'mine' begins anew"):
        workshop.tune(ear=make_ear(stop_at=2))
    (made,) = workshop.tune(workshop.recipe(training__learning_rate=1e-3))
    assert made.status == "trained"


def test_a_torn_checkpoint_is_none_and_makes_room_for_another_recipe(workshop: Any, make_ear: Any) -> None:
    work = workshop.out / ".work" / "mine"
    torn = work / "checkpoints" / "checkpoint-5"

    def tear() -> None:
        (torn / "trainer_state.json").write_text('{"global_', encoding="utf-8")

    with pytest.raises(KeyboardInterrupt, match="'mine' begins anew"):
        workshop.tune(workshop.recipe(training__checkpoint_every=5), ear=make_ear(at={6: tear}, stop_at=6))
    assert not work.exists()
    (made,) = workshop.tune(workshop.recipe(training__learning_rate=1e-3))
    assert made.status == "trained"


def test_a_candidate_that_cannot_be_written_is_not_there_and_its_training_is_kept(
    workshop: Any, make_ear: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(partial: Path, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "put_in_place", full)
        with pytest.raises(StoreError, match=r"No space left.*run the same command again"):
            workshop.tune()
    assert not (workshop.out / "mine").exists()
    ear = make_ear()
    (made,) = workshop.tune(ear=ear)
    assert made.status == "trained" and len(ear.steps) < made.provenance["training"]["steps"]


@pytest.mark.parametrize(("size", "reason"), [(4_000, "File too large"), (9_000, "torch could write only a part")])
def test_a_full_disk_in_a_training_is_one_line_and_costs_the_steps_since_the_checkpoint(
    workshop: Any, make_ear: Any, size: int, reason: str
) -> None:
    """Where little room is left the best weights fail, in safetensors; where there is more, the optimizer, in torch."""
    recipe = workshop.recipe(training__checkpoint_every=5)
    workshop.tune(recipe, out=workshop.root / "undisturbed", db=workshop.root / "other.duckdb")
    with ExitStack() as stack, pytest.raises(StoreError) as raised:
        ear = make_ear(at={9: lambda: stack.enter_context(no_file_above(size))})
        workshop.tune(recipe, ear=ear)
    line = str(raised.value)
    assert line.startswith(f"cannot write the working folder {workshop.out / '.work' / 'mine'} ({reason}; ")
    assert "iB are free there now" in line and line.endswith("run the same command again: 'mine' goes on from step 5")
    work = workshop.out / ".work" / "mine"
    assert [path.name for path in (work / "checkpoints").iterdir()] == ["checkpoint-5"]
    assert not list(work.rglob("*.part")), "what was half written only takes space"
    ear = make_ear()
    (made,) = workshop.tune(recipe, ear=ear)
    assert made.status == "trained" and ear.steps[0] == 6
    undisturbed = workshop.root / "undisturbed/mine/adapter_model.safetensors"
    assert (made.folder / "adapter_model.safetensors").read_bytes() == undisturbed.read_bytes()
    assert [row.status for row in find_trainings(workshop.db)] == ["done"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_full_disk_at_the_end_of_a_training_is_one_line_whichever_library_finds_it(
    workshop: Any, make_ear: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    recipe = workshop.recipe(method=method, training__learning_rate=1e-3)
    write = publishing._write

    def full(*given: Any) -> None:
        with no_file_above(1000):
            write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_write", full)
        with pytest.raises(StoreError) as raised:
            workshop.tune(recipe)
    line = str(raised.value)
    assert line.startswith(f"cannot write the candidate to {workshop.out / 'mine'} (File too large; ")
    assert line.endswith("run the same command again: 'mine' goes on from step 9")
    assert not (workshop.out / "mine").exists() and not (workshop.out / ".work" / "mine" / "candidate").exists()
    ear = make_ear()
    (made,) = workshop.tune(recipe, ear=ear)
    assert made.status == "trained" and len(ear.steps) < made.provenance["training"]["steps"]


def test_a_database_that_cannot_be_written_either_hides_no_error(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    def no_room(*given: Any) -> None:
        raise StoreError("the database has no room")

    monkeypatch.setattr(publishing, "put_in_place", full)
    monkeypatch.setattr(TrainingStore, "fail", no_room)
    with pytest.raises(StoreError, match=r"candidate to .*mine \(No space left on device"):
        workshop.tune()


def test_two_processes_do_not_make_the_same_candidate(workshop: Any) -> None:
    from filelock import FileLock

    (workshop.out / ".work").mkdir(parents=True)
    with FileLock(workshop.out / ".work" / "mine.lock"), pytest.raises(StoreBusy, match="another process makes 'mine'"):
        workshop.tune()


def test_a_full_checkpoint_is_a_model_of_its_own(workshop: Any) -> None:
    (made,) = workshop.tune(workshop.recipe(method="full", training__learning_rate=1e-3))
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(files(made.folder))
    assert resolve_model(ModelRef(str(made.folder))).sha256
    with pytest.raises(AdapterError):
        resolve_adapter(str(made.folder))
    (row,) = queries.models(workshop.db)
    assert (row.adapter_path, row.model_id) == (None, str(made.folder))


@pytest.mark.parametrize("method", ["full", "lora", "bottleneck"])
def test_classifiers_keep_the_names_of_their_labels(workshop: Any, method: str) -> None:
    (made,) = workshop.tune(workshop.recipe("bert", method=method))
    facts = workshop.provenance()
    assert (facts["kind"], facts["labels"], facts["pair"]) == ("classification", ["even", "odd"], False)
    if method == "full":
        config = json.loads((made.folder / "config.json").read_text())
        assert config["id2label"] == {"0": "even", "1": "odd"}
    else:
        assert json.loads((made.folder / "labels.json").read_text()) == {"labels": ["even", "odd"], "pair": False}


def test_an_encoder_decoder_learns_to_answer(workshop: Any) -> None:
    (made,) = workshop.tune(workshop.recipe("t5"))
    assert workshop.provenance()["kind"] == "seq2seq"
    assert json.loads((made.folder / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    assert made.provenance["serving"][1]["takes"] == "no"


def test_a_method_that_does_not_fit_the_model_names_those_that_do(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneboard.tuning.methods import find_method

    monkeypatch.setattr(find_method("prompt"), "KINDS", frozenset({"causal"}))
    with pytest.raises(UsageError, match=r"'prompt' does not fit seq2seq models \(only causal\).*lora"):
        workshop.tune(workshop.recipe("t5", method="prompt"))


def test_too_little_memory_is_said_before_anything_is_loaded(
    workshop: Any, make_ear: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneboard.errors import ModelError
    from tuneboard.tuning import memory

    monkeypatch.setattr(memory, "free_memory", lambda device: 1e-6)
    ear = make_ear()
    with pytest.raises(ModelError, match="GiB are free"):
        workshop.tune(ear=ear)
    assert ear.notes == [] and not workshop.db.exists()


def test_data_paths_can_start_elsewhere_than_at_the_recipe(workshop: Any) -> None:
    elsewhere = workshop.root / "elsewhere"
    elsewhere.mkdir()
    shutil.move(workshop.root / "train.jsonl", elsewhere / "train.jsonl")
    with pytest.raises(DataError, match=r"train\.jsonl"):
        workshop.tune()
    (made,) = workshop.tune(data_folder=elsewhere)
    assert made.status == "trained"


def test_provenance_names_a_base_that_can_be_found_from_any_folder(workshop: Any) -> None:
    base = workshop.root / "base"
    shutil.copytree(workshop.models["llama"], base)
    for given in ("base", str(base)):
        workshop.tune(workshop.recipe(base=given, name=f"by-{len(given)}"), db=workshop.root / f"{len(given)}.duckdb")
        assert workshop.provenance(f"by-{len(given)}")["base"]["id"] == str(base)
    one, other = (workshop.out / f"by-{len(given)}" for given in ("base", str(base)))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
