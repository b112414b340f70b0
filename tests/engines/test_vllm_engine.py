"""Which model the vLLM engine loads for whom; vLLM itself stands aside (see tests/with_vllm)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_models import MakeAdapter, MakeModel

from tuneboard.candidates import resolve_adapter
from tuneboard.engines import vllm, vllm_installed
from tuneboard.engines.loading import LoadOptions
from tuneboard.engines.merged import PAIRS
from tuneboard.engines.protocol import BASE, Answer, LoadsLate, Work
from tuneboard.engines.transformers import TransformersEngine
from tuneboard.engines.vllm_faults import WorkerLost
from tuneboard.errors import EngineError, MissingExtra, ModelError
from tuneboard.records import AdapterRef, ModelRef


class Stage:
    """Answers with transformers what a running vLLM would; knows who is loaded beside it."""

    loaded = 0
    most = 0
    started: list[tuple[str, ...]] = []  # noqa: RUF012
    refuses: frozenset[str] = frozenset()
    dies_at: int | None = None
    lives = 0  # workers that die, each at ``dies_at``
    slow_lora = False

    def __init__(self, plan: Any, adapters: Mapping[str, AdapterRef], reader: Any) -> None:
        kind = type(self)
        kind.loaded += 1
        kind.most = max(kind.most, kind.loaded)
        kind.started.append(tuple(adapters))
        self.plan, self.dtype = plan, "float32"
        self.refused = {name: "vLLM has something against it" for name in adapters if name in kind.refuses}
        self.inner = TransformersEngine(plan.ref, LoadOptions("cpu"))
        for name, adapter in adapters.items():
            if name not in self.refused:
                self.inner.attach(name, adapter)

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        for place, answer in enumerate(self.inner.run(work)):
            if place == type(self).dies_at and type(self).lives:
                type(self).lives -= 1
                raise WorkerLost("vLLM's worker process ended")
            yield answer

    def close(self) -> None:
        type(self).loaded -= 1


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> type[Stage]:
    fresh = type("Fresh", (Stage,), {"started": []})
    monkeypatch.setattr(vllm, "Host", fresh)
    monkeypatch.setattr(vllm, "runs_on_cpu", lambda options: True)
    monkeypatch.setattr(vllm, "set_environment", lambda wanted: None)
    return fresh


@pytest.fixture
def adapters(tiny_model: MakeModel, tiny_adapter: MakeAdapter) -> dict[str, AdapterRef]:
    from peft import IA3Config, LoraConfig, PromptTuningConfig

    base = tiny_model("llama_untied")
    configs = {
        "lora": None,
        "other": LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False),
        "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    # The default is on all linear layers; the head would be merged.
    configs["lora"] = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    return {name: resolve_adapter(str(tiny_adapter(base, config))) for name, config in configs.items()}


@pytest.fixture
def make(
    stage: type[Stage], tiny_model: MakeModel, adapters: dict[str, AdapterRef]
) -> Callable[..., tuple[vllm.VllmEngine, list[str]]]:
    def made(*names: str, **ref: Any) -> tuple[vllm.VllmEngine, list[str]]:
        notes: list[str] = []
        engine = vllm.VllmEngine(ModelRef(str(tiny_model("llama_untied")), dtype="float32", **ref), notice=notes.append)
        for name in names:
            engine.attach(name, adapters[name])
        return engine, notes

    return made


def ask(engine: Any, *candidates: str) -> dict[tuple[str, int], Any]:
    work = [Work(i, c, "loglikelihood", p) for i, (c, p) in enumerate((c, p) for c in candidates for p in PAIRS)]
    answers = {answer.id: answer for answer in engine.run(work)}
    assert sorted(answers) == [item.id for item in work]
    return {(item.candidate, item.id % len(PAIRS)): answers[item.id] for item in work}


def test_the_model_is_loaded_once_when_all_adapters_are_known(make: Callable[..., Any], stage: type[Stage]) -> None:
    engine, notes = make("lora", "other")
    assert isinstance(engine, LoadsLate) and not stage.started
    engine.start()
    found = ask(engine, BASE, "lora", "other")
    engine.close()
    assert stage.started == [("lora", "other")] and not notes
    assert len({found[name, 0].response[0] for name in (BASE, "lora", "other")}) == 3
    assert stage.loaded == 0


def test_adapters_that_run_by_other_operations_than_expected_are_told(
    make: Callable[..., Any], stage: type[Stage]
) -> None:
    stage.slow_lora = True
    engine, notes = make("lora")
    engine.start()
    engine.close()
    assert len(notes) == 1 and "operations for adapters on CPUs" in notes[0] and "slow" in notes[0]


def test_one_model_is_loaded_at_a_time_and_every_adapter_answers_as_in_transformers(
    make: Callable[..., Any], stage: type[Stage], adapters: dict[str, AdapterRef]
) -> None:
    names = ("lora", "ia3", "prompt")
    engine, notes = make(*names)
    found = ask(engine, BASE, *names)
    assert [line.split(":")[0] for line in notes] == ["ia3", "prompt"]
    assert stage.most == 1
    for name in names:
        plain = TransformersEngine(engine.ref, LoadOptions("cpu"))
        plain.attach(name, adapters[name])
        for key, wanted in ask(plain, name).items():
            assert found[key].response[0] == pytest.approx(wanted.response[0], abs=1e-3)
    # What is loaded at the end of a call is asked first in the next.
    before = len(stage.started)
    ask(engine, BASE, "lora")
    assert len(stage.started) <= before + 1
    engine.close()


def test_an_adapter_that_vllm_refuses_after_all_is_merged(make: Callable[..., Any], stage: type[Stage]) -> None:
    stage.refuses = frozenset({"other"})
    engine, notes = make("lora", "other")
    found = ask(engine, "lora", "other")
    engine.close()
    assert "something against it" in notes[0] and "merged into a temporary checkpoint" in notes[0]
    assert all(answer.response is not None for answer in found.values())


def test_what_would_answer_otherwise_when_merged_is_answered_by_transformers(
    stage: type[Stage], tiny_model: MakeModel, tiny_adapter: MakeAdapter
) -> None:
    from peft import LoraConfig

    base, notes = tiny_model("llama"), []
    # The head is tied to the embeddings, which merging changes too.
    config = LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False)
    engine = vllm.VllmEngine(ModelRef(str(base), dtype="float32"), notice=notes.append)
    engine.attach("head", resolve_adapter(str(tiny_adapter(base, config))))
    found = ask(engine, "head")
    engine.close()
    assert "lm_head, which vLLM has left out silently" in notes[0]
    assert "merged, it would answer otherwise" in notes[1] and "the transformers engine answers" in notes[1]
    assert all(answer.response is not None for answer in found.values())


def test_temporary_checkpoints_go_with_the_engine(make: Callable[..., Any]) -> None:
    engine, _ = make("ia3")
    ask(engine, "ia3")
    (folder, _) = engine._folders["ia3"]
    assert folder.is_dir()
    engine.close()
    assert not folder.exists()


def test_nothing_is_merged_into_quantized_weights(make: Callable[..., Any]) -> None:
    _, notes = make("ia3", quantization="fp8")
    assert "cannot be merged into quantized weights" in notes[0] and "transformers engine answers" in notes[0]


def test_a_worker_that_died_is_replaced_and_asked_what_is_open(make: Callable[..., Any], stage: type[Stage]) -> None:
    engine, notes = make("lora")
    whole = ask(engine, BASE, "lora")
    stage.dies_at, stage.lives = 3, 2
    again = ask(engine, BASE, "lora")
    assert again.keys() == whole.keys()
    assert [one.response[0] for one in again.values()] == pytest.approx(
        [one.response[0] for one in whole.values()], abs=1e-5
    )
    assert len(stage.started) == 3 and stage.most == 1
    assert [note.split(": ")[1] for note in notes if "worker process ended" in note] == [
        f"it is started again for {2 * len(PAIRS) - asked} of {2 * len(PAIRS)} requests" for asked in (3, 6)
    ]
    engine.close()


@pytest.mark.parametrize(("dies_at", "answered"), [(0, 0), (1, 4)], ids=["at once", "again and again"])
def test_workers_that_keep_dying_fail_what_is_open_and_the_next_call_starts_anew(
    make: Callable[..., Any], stage: type[Stage], dies_at: int, answered: int
) -> None:
    engine, _ = make("lora")
    engine.start()
    stage.dies_at, stage.lives = dies_at, 4 if dies_at else 1
    found = ask(engine, BASE, "lora")
    failed = [answer for answer in found.values() if answer.response is None]
    assert len(failed) == 2 * len(PAIRS) - answered and "worker process ended" in failed[0].error
    assert all(answer.response is not None for answer in ask(engine, BASE, "lora").values())
    engine.close()


def test_an_unknown_candidate_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(EngineError, match="no adapter named 'nobody'"):
        ask(make()[0], "nobody")


def test_without_vllm_the_command_that_installs_it_is_named(
    tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_installed, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'tuneboard\[vllm\]'"):
        vllm.VllmEngine(ModelRef(str(tiny_model("llama"))))


def test_a_model_that_is_not_there_is_one_line(stage: type[Stage], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        vllm.VllmEngine(ModelRef(str(tmp_path)))
