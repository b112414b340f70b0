from __future__ import annotations

import dataclasses
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from full_disk import no_file_above
from tiny_models import MakeModel

from tuneboard.errors import DataError, OutOfMemory, UsageError
from tuneboard.tuning.arguments import tensorboard
from tuneboard.tuning.checkpoints import WorkFolder
from tuneboard.tuning.methods._counting import parameter_counts
from tuneboard.tuning.records import ModelKind, PreparedData
from tuneboard.tuning.training import train


@pytest.mark.parametrize("kind", ["causal", "classification", "seq2seq"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_lowers_the_validation_loss_of_each_kind_of_model(
    kind: ModelKind, method: str, tiny_model: MakeModel, tmp_path: Path
) -> None:
    ear = tiny.Ear()
    given = tiny.recipe(tiny_model(tiny.MODELS[kind]), method)
    model, trained = train(tiny.job(given, kind, tmp_path), ear)
    assert trained.first_validation_loss is not None and trained.validation_loss is not None
    assert trained.validation_loss < 0.9 * trained.first_validation_loss
    assert (trained.trained_parameters, trained.total_parameters) == parameter_counts(model)
    assert [step for step, _, _ in ear.steps] == list(range(1, trained.steps + 1))
    assert {"loss", "learning_rate", "tokens_per_s", "seconds_left", "memory_gib"} <= ear.steps[-1][2].keys()


@pytest.mark.parametrize("batching", ["packed", "grouped", "plain"])
def test_a_recipe_gives_the_same_bits_twice(batching: str, tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(), batching=batching, epochs=2)
    first, _ = train(tiny.job(given, "causal", tmp_path / "a"), tiny.Ear())
    torch.randn(7)  # what ran before in the process does not matter
    second, _ = train(tiny.job(given, "causal", tmp_path / "b"), tiny.Ear())
    assert tiny.digest(first) == tiny.digest(second)


def test_seeds_give_different_heads_orders_and_weights(tiny_model: MakeModel, tmp_path: Path) -> None:
    weights = set()
    for seed in (0, 1):
        given = tiny.recipe(
            tiny_model("bert"), "partial", {"head_only": True}, epochs=0.1, learning_rate=1e-9, seed=seed
        )
        model, _ = train(tiny.job(given, "classification", tmp_path / str(seed)), tiny.Ear())
        weights.add(tuple(model.classifier.weight[0, :3].tolist()))
    assert len(weights) == 2


def test_packed_and_padded_trainings_see_the_same_first_loss(tiny_model: MakeModel, tmp_path: Path) -> None:
    losses = {}
    for batching in ("packed", "plain"):
        given = tiny.recipe(tiny_model(), options={"dropout": 0.0}, batching=batching, epochs=1, precision="float32")
        _, trained = train(tiny.job(given, "causal", tmp_path / batching), tiny.Ear())
        losses[batching] = trained.first_validation_loss
    assert losses["packed"] == pytest.approx(losses["plain"], rel=1e-5)


def test_accumulated_batches_step_like_one_large_batch(tiny_model: MakeModel, tmp_path: Path) -> None:
    curves = []
    for batch, accumulation in ((8, 1), (2, 4)):
        given = tiny.recipe(
            tiny_model(),
            options={"dropout": 0.0},
            batching="plain",
            batch_size=batch,
            gradient_accumulation=accumulation,
            max_steps=5,
            precision="float32",
        )
        _, trained = train(tiny.job(given, "causal", tmp_path / str(batch)), tiny.Ear())
        curves.append([point.value for point in trained.curve if point.name == "loss"])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_patience_ends_training_and_the_best_weights_come_out(tiny_model: MakeModel, tmp_path: Path) -> None:
    steady = {"learning_rate": 3e-2, "schedule": "constant", "warmup": 0.0}
    given = tiny.recipe(tiny_model(), "full", epochs=30, validate_every=4, patience=3, **steady)
    ear = tiny.Ear()
    data = tiny.prepared("causal", 12, 4)
    model, trained = train(tiny.job(given, "causal", tmp_path, data), ear)
    losses = {point.step: point.value for point in trained.curve if point.name == "validation_loss"}
    assert trained.steps == max(losses) < 90
    assert trained.best_step == min((step for step in losses if step), key=losses.__getitem__) == trained.steps - 12
    assert trained.validation_loss == losses[trained.best_step]
    again = tiny.recipe(tiny_model(), "full", max_steps=trained.best_step, **steady)
    until_then, _ = train(tiny.job(again, "causal", tmp_path / "until", data), tiny.Ear())
    assert tiny.digest(model) == tiny.digest(until_then)
    assert any("stopping at step" in note for note in ear.notes)


def test_a_training_of_one_step_changes_weights(tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(), "full", max_steps=1)
    _, trained = train(tiny.job(given, "causal", tmp_path, tiny.prepared("causal", 12, 4)), tiny.Ear())
    before, after = (point.value for point in trained.curve if point.name == "validation_loss")
    assert after < before


def test_a_loss_that_is_no_number_is_one_clear_line(tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(), "full", learning_rate=1e30, clip=0.0, precision="float32", warmup=0.0)
    with pytest.raises(UsageError, match=r"the loss is not a number; lower training\.learning_rate"):
        train(tiny.job(given, "causal", tmp_path), tiny.Ear())


def test_nothing_to_learn_is_refused(tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(), max_length=8)
    given = dataclasses.replace(
        given, data=dataclasses.replace(given.data, cleaning=dataclasses.replace(given.data.cleaning, overlong="drop"))
    )
    with pytest.raises(DataError, match="nothing to learn: 32 training examples, 32 of them dropped"):
        train(tiny.job(given, "causal", tmp_path), tiny.Ear())


def test_unusual_settings_are_warned_about_once(tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(), learning_rate=0.2, epochs=1, batch_size=16, max_length=12)
    ear = tiny.Ear()
    _, trained = train(tiny.job(given, "causal", tmp_path), ear)
    text = " | ".join(trained.warnings)
    assert "learning_rate 0.2 is outside of what lora usually takes" in text
    assert "32 training examples; lora usually needs 50 or more" in text
    assert "optimizer steps in all" in text
    assert len(set(trained.warnings)) == len(trained.warnings) == sum("warning:" in note for note in ear.notes)


@pytest.mark.parametrize(("method", "told"), [("lora", "the 128 tokens"), ("prompt", "108 tokens")])
def test_a_length_above_the_context_is_said(method: str, told: str, tiny_model: MakeModel, tmp_path: Path) -> None:
    for length, notes in ((1000, 1), (100, 0)):
        ear = tiny.Ear()
        given = tiny.recipe(tiny_model(), method, max_length=length, max_steps=1, learning_rate=1e-2)
        train(tiny.job(given, "causal", tmp_path / str(length)), ear)
        said = [note for note in ear.notes if f"data.max_length {length} is above" in note]
        assert len(said) == notes and all(told in note for note in said)


def test_a_step_is_told_with_the_validation_loss_that_it_led_to(tiny_model: MakeModel, tmp_path: Path) -> None:
    ear = tiny.Ear()
    _, trained = train(tiny.job(tiny.recipe(tiny_model(), epochs=2, validate_every=3), "causal", tmp_path), ear)
    measured = {point.step: point.value for point in trained.curve if point.name == "validation_loss"}
    assert len(measured) > 3
    for step, _, values in ear.steps:
        assert values["validation_loss"] == measured[max(known for known in measured if known <= step)]


def test_no_validation_data_is_no_obstacle(tiny_model: MakeModel, tmp_path: Path) -> None:
    data = tiny.prepared("causal")
    given = tiny.recipe(tiny_model(), epochs=1)
    only = PreparedData(data.train, (), data.report)
    _, trained = train(tiny.job(given, "causal", tmp_path, only), tiny.Ear())
    assert trained.validation_loss is None and trained.best_step is None and trained.steps > 0


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_are_not_packed(method: str, tiny_model: MakeModel, tmp_path: Path) -> None:
    ear = tiny.Ear()
    _, trained = train(tiny.job(tiny.recipe(tiny_model(), method, epochs=2), "causal", tmp_path), ear)
    assert any("not packed" in note for note in ear.notes)
    assert trained.validation_loss < trained.first_validation_loss


def test_checkpointed_gradients_change_no_bit(tiny_model: MakeModel, tmp_path: Path) -> None:
    digests = set()
    for checkpointing in (False, True):
        given = tiny.recipe(tiny_model(), epochs=1, gradient_checkpointing=checkpointing, precision="float32")
        model, _ = train(tiny.job(given, "causal", tmp_path / str(checkpointing)), tiny.Ear())
        digests.add(tiny.digest(model))
    assert len(digests) == 1


def test_a_model_leaves_training_as_it_came_but_for_what_was_trained(tiny_model: MakeModel, tmp_path: Path) -> None:
    given = tiny.recipe(tiny_model(dtype="bfloat16"), "full", epochs=1)
    job = tiny.job(given, "causal", tmp_path)
    before = job.base.model.config.to_dict()
    model, _ = train(job, tiny.Ear())
    assert model.config.to_dict() == before
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == "sdpa" and not model.training


@pytest.mark.parametrize("kind", ["causal", "classification", "seq2seq"])
def test_four_bit_bases_train_and_their_new_heads_too(kind: ModelKind, tiny_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    given = tiny.recipe(tiny_model(tiny.MODELS[kind]), "qlora", epochs=2)
    _, trained = train(tiny.job(given, kind, tmp_path), tiny.Ear())
    assert trained.validation_loss < trained.first_validation_loss


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit"])
def test_eight_bit_optimizers_train(optimizer: str, tiny_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    given = tiny.recipe(tiny_model(), "full", optimizer=optimizer, epochs=2)
    _, trained = train(tiny.job(given, "causal", tmp_path), tiny.Ear())
    assert trained.validation_loss < trained.first_validation_loss


def test_bfloat16_trains_nearly_as_float32(tiny_model: MakeModel, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        given = tiny.recipe(tiny_model(), precision=precision, epochs=2)
        model, trained = train(tiny.job(given, "causal", tmp_path / precision), tiny.Ear())
        losses.append(trained.validation_loss)
        ids = torch.tensor([[1, 5, 9]])
        assert model(input_ids=ids).logits.dtype == torch.float32  # no autocast stays behind
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_what_tensorboards_thread_cannot_write_is_said_once_by_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SummaryWriter = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    said: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", said.append)

    def write() -> None:
        writer = SummaryWriter(str(tmp_path / "logs"))
        for step in range(100):
            writer.add_scalar("loss", 1.0, step)
            writer.flush()

    with tensorboard(WorkFolder(tmp_path)), no_file_above(1000), pytest.raises(OSError, match="File too large"):
        write()
    assert said == []
    with tensorboard(WorkFolder(tmp_path)):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert len(said) == 1, "other errors are told as ever"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "lower training.batch_size (now 4), or set training.gradient_checkpointing: true, or lower"),
        ({"batch_size": 1, "gradient_checkpointing": True}, "memory; lower data.max_length (now 48)"),
    ],
)
def test_where_memory_ends_only_what_can_still_be_lowered_is_advised(
    settings: dict[str, Any], said: str, tiny_model: MakeModel, tmp_path: Path
) -> None:
    class Full(tiny.Ear):
        def step(self, *given: Any) -> None:
            raise MemoryError

    with pytest.raises(OutOfMemory, match=re.escape(said)):
        train(tiny.job(tiny.recipe(tiny_model(), **settings), "causal", tmp_path), Full())
