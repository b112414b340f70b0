"""Models that are not causal are evaluated beside others, each in an engine of its own kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_heads

from tuneboard.cli.main import main
from tuneboard.errors import ModelError
from tuneboard.evaluate.placing import engine_groups, without_headless
from tuneboard.records import AdapterRef, Candidate, ModelRef
from tuneboard.store import queries

ROWS = (
    ("the man took the bread", 1),
    ("once upon a time there was a little girl", 0),
    ("nothing is faster than light", 1),
    ("what falls is a ball", 0),
    ("nobody liked to play in the garden", 0),
)
LABEL_TASK = """
task: toy_sentiment
dataset_path: own/sentiment
output_type: multiple_choice
test_split: test
doc_to_text: "{{text}}"
doc_to_choice: [negative, positive]
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
TEXT_TASK = """
task: toy_echo
dataset_path: own/sentiment
output_type: generate_until
test_split: test
doc_to_text: "echo: {{text}}"
doc_to_target: text
generation_kwargs:
  until: ["zzz"]
  max_gen_toks: 6
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def cells(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(cell["candidate"], cell["task"]): cell for cell in self.result["cells"]}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs ``evaluate`` on the toy label and text tasks of a mirror; returns how it ended."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tasks, data = tmp_path / "tasks", tmp_path / "mirror" / "own" / "sentiment" / "default"
    tasks.mkdir()
    data.mkdir(parents=True)
    (tasks / "sentiment.yaml").write_text(LABEL_TASK)
    (tasks / "echo.yaml").write_text(TEXT_TASK)
    pq.write_table(
        pa.table({"text": [text for text, _ in ROWS], "label": [at for _, at in ROWS]}), data / "test.parquet"
    )
    monkeypatch.chdir(tmp_path)

    def run(*argv: Any, tasks: str = "toy_sentiment") -> Ran:
        capsys.readouterr()
        given = ["--tasks", tasks, "--include-path", "tasks", "--mirror", "mirror", "--db", "r.duckdb", "--json"]
        code = main(["evaluate", *map(str, argv), *given, "--device", "cpu"])
        return Ran(code, *capsys.readouterr())

    return run


def lora(task: str, modules: Sequence[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type=task, r=4, target_modules=list(modules), init_lora_weights=False)


def label_scores(candidate: str) -> list[list[Any]]:
    return [sample["responses"] for sample in queries.samples(Path("r.duckdb"), candidate, "toy_sentiment")]


def assert_scores(candidate: str, plain: Callable[[str, str], tuple[float, bool]]) -> float:
    """Compare a candidate's stored scores with a plain model's; returns the accuracy that these give."""
    right = 0
    for (text, label), responses in zip(ROWS, label_scores(candidate), strict=True):
        expected = [plain(name, text) for name in tiny_heads.SENTIMENTS]
        for (logprob, greedy), (wanted, best) in zip(responses, expected, strict=True):
            assert (logprob, greedy) == (pytest.approx(wanted, abs=5e-5), best)
        right += max(range(2), key=lambda place: expected[place][0]) == label
    return right / len(ROWS)


def test_a_classifier_answers_a_label_task_as_its_plain_forward_pass(run: Any, tiny_model: Any, tmp_path: Path) -> None:
    full = tiny_heads.save_classifier(tmp_path / "full", tiny_model("bert"))
    done = run("--model", full)
    assert done.code == 0
    (cell,) = done.cells.values()
    assert cell["metrics"][0]["value"] == assert_scores("base", tiny_heads.PlainLabels(full))
    assert done.result["engine"]["name"] == "transformers-classifier"
    words = sum(len(tiny_heads.PlainLabels(full).tokenizer(text)["input_ids"]) for text, _ in ROWS)
    assert (cell["tokens"]["computed"], cell["tokens"]["distinct"], cell["tokens"]["reused"]) == (words, words, words)
    again = run("--model", full)
    assert [cell["status"] for cell in again.cells.values()] == ["reused"]


def test_adapters_answer_over_an_encoder_that_is_left_out_for_lack_of_a_head(
    run: Any, tiny_model: Any, tmp_path: Path
) -> None:
    base = tiny_model("bert")
    config = lora("SEQ_CLS", ["query", "value"])
    names = {
        f"a{seed}": tiny_heads.save_label_adapter(tmp_path / f"a{seed}", base, config, seed=seed) for seed in (1, 2)
    }
    adapters = [f"--adapter={name}={path}" for name, path in names.items()]
    done = run("--model", base, *adapters)
    assert done.code == 0, done.err
    assert list(done.cells) == [("a1", "toy_sentiment"), ("a2", "toy_sentiment")]
    assert f"'base' is left out: {base} has no classification head" in done.err
    for name, path in names.items():
        accuracy = assert_scores(name, tiny_heads.PlainLabels(base, path))
        assert done.cells[name, "toy_sentiment"]["metrics"][0]["value"] == accuracy
    (row,) = queries.runs(Path("r.duckdb"))
    assert row.settings["kinds"] == {"a1": "classification", "a2": "classification"}
    assert [model.name for model in queries.models(Path("r.duckdb"))] == ["a1", "a2"]


def test_an_adapter_that_changes_nothing_is_invalid_and_others_are_not(
    run: Any, tiny_model: Any, tmp_path: Path
) -> None:
    from peft import LoraConfig

    base = tiny_model("bert")
    idle = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=0, target_modules=["query"])
    one = tiny_heads.save_label_adapter(tmp_path / "idle", base, idle)
    two = tiny_heads.save_label_adapter(tmp_path / "good", base, lora("SEQ_CLS", ["query"]))
    done = run("--model", base, f"--adapter=idle={one}", f"--adapter=good={two}")
    assert done.code == 2
    assert {name: cell["status"] for (name, _), cell in done.cells.items()} == {"idle": "invalid", "good": "done"}
    assert "'idle' was not applied" in done.cells["idle", "toy_sentiment"]["reason"]


def test_an_encoder_without_a_head_and_without_adapters_is_refused_before_anything_runs(
    run: Any, tiny_model: Any
) -> None:
    done = run("--model", tiny_model("bert"))
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "is an encoder without a classification head and answers nothing; fine-tune it on labels" in done.err
    assert not Path("r.duckdb").exists()


def test_a_t5_and_its_adapter_answer_labels_and_write_texts(run: Any, tiny_model: Any, tmp_path: Path) -> None:
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    base = tiny_model("t5")
    torch.manual_seed(0)
    tuned = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(base), lora("SEQ_2_SEQ_LM", ["q", "v"])).eval()
    tuned.save_pretrained(tmp_path / "a")
    done = run("--model", base, f"--adapter=a={tmp_path / 'a'}", tasks="toy_sentiment,toy_echo")
    assert done.code == 0, done.err
    assert done.result["engine"]["name"] == "transformers-seq2seq"
    words = AutoTokenizer.from_pretrained(base)

    def plain(model: Any) -> Callable[[str, str], tuple[float, bool]]:
        def score(label: str, text: str) -> tuple[float, bool]:
            ids = words.encode(f" {label}", add_special_tokens=False)
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([words.encode(text)]), labels=torch.tensor([ids])).logits[0]
            rows = logits.double().log_softmax(-1)
            return float(sum(row[i] for row, i in zip(rows, ids, strict=True))), rows.argmax(-1).tolist() == ids

        return score

    accuracy = assert_scores("a", plain(tuned))
    assert done.cells["a", "toy_sentiment"]["metrics"][0]["value"] == accuracy
    with tuned.disable_adapter():
        assert_scores("base", plain(tuned))
    texts = [sample["responses"][0] for sample in queries.samples(Path("r.duckdb"), "a", "toy_echo")]
    for (text, _), written in zip(ROWS, texts, strict=True):
        ids = torch.tensor([words.encode(f"echo: {text}")])
        expected = tuned.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        assert written == words.decode(expected[0], skip_special_tokens=True)


def test_kinds_are_mixed_in_one_command_and_what_one_cannot_do_fails_its_cells_alone(
    run: Any, tiny_model: Any, tmp_path: Path
) -> None:
    full = tiny_heads.save_classifier(tmp_path / "full", tiny_model("bert"))
    llama = tiny_model("llama")
    head = tiny_heads.save_label_adapter(tmp_path / "head", llama, lora("SEQ_CLS", ["q_proj"]))
    others = [f"--candidate=bert={full}", f"--candidate=t5={tiny_model('t5')}", f"--adapter=head={head}"]
    done = run("--model", llama, *others, tasks="toy_sentiment,toy_echo")
    assert done.code == 2
    statuses = {key: cell["status"] for key, cell in done.cells.items()}
    writers = {
        (name, "toy_echo"): "done" if name in ("base", "t5") else "failed" for name in ("base", "t5", "bert", "head")
    }
    assert statuses == {(name, "toy_sentiment"): "done" for name in ("base", "t5", "bert", "head")} | writers
    assert "a classification model writes no text" in done.cells["bert", "toy_echo"]["reason"]
    assert set(done.result["engine"]["name"].split(" + ")) == {
        "transformers",
        "transformers-classifier",
        "transformers-seq2seq",
    }
    (row,) = queries.runs(Path("r.duckdb"))
    expected = {"base": "causal", "head": "classification", "bert": "classification", "t5": "seq2seq"}
    assert row.settings["kinds"] == expected
    assert {cell.engine for cell in queries.cells(Path("r.duckdb"))} == {"transformers"}
    assert_scores("head", tiny_heads.PlainLabels(llama, head))


def test_real_labels_are_scored_as_by_a_plain_forward_pass(
    mirror: Path, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet as pq

    dataset = "cornell-movie-review-data/rotten_tomatoes"
    file = mirror / dataset / "default" / "test.parquet"
    if not file.is_file():
        pytest.skip(f"the mirror has no {dataset}")
    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()
    yaml = LABEL_TASK.replace("own/sentiment", dataset).replace("toy_sentiment", "reviews")
    Path("tasks/reviews.yaml").write_text(yaml)
    full = tiny_heads.save_classifier(tmp_path / "full", tiny_model("bert"))
    given = [
        "--tasks",
        "reviews",
        "--include-path",
        "tasks",
        "--mirror",
        str(mirror),
        "--limit",
        "60",
        "--db",
        "r.duckdb",
    ]
    assert main(["evaluate", "--model", str(full), *given, "--json", "--quiet", "--device", "cpu"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    rows = pq.read_table(file).to_pylist()[:60]
    plain = tiny_heads.PlainLabels(full)
    right = [plain(tiny_heads.SENTIMENTS[row["label"]], row["text"])[1] for row in rows]
    assert cell["metrics"][0]["value"] == pytest.approx(sum(right) / 60)


class TestPlacing:
    @pytest.fixture
    def toy(self, tmp_path: Path) -> Callable[..., Candidate]:
        def make(name: str, model: str, architecture: str, adapter: tuple[str, str | None] | None = None) -> Candidate:
            folder = tmp_path / model
            folder.mkdir(exist_ok=True)
            kind = architecture.removesuffix("Model").lower()
            (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": kind}))
            ref = None
            if adapter is not None:
                (tmp_path / name).mkdir()
                (tmp_path / name / "adapter_config.json").write_text(json.dumps({"task_type": adapter[1]}))
                ref = AdapterRef(str(tmp_path / name), name, adapter[0])
            return Candidate(name, ModelRef(str(folder), sha256=model), ref)

        return make

    def test_a_base_goes_with_the_first_adapters_of_its_own_kind(self, toy: Any) -> None:
        llama = "LlamaForCausalLM"
        candidates = [
            toy("base", "m", llama),
            toy("head", "m", llama, ("LORA", "SEQ_CLS")),
            toy("ia3", "m", llama, ("IA3", "CAUSAL_LM")),
            toy("lora", "m", llama, ("LORA", "CAUSAL_LM")),
            toy("other", "n", llama),
        ]
        groups = [(group.kind, [one.name for one in group.candidates]) for group in engine_groups(candidates)]
        assert groups == [
            ("causal", ["base", "ia3"]),
            ("classification", ["head"]),
            ("causal", ["lora"]),
            ("causal", ["other"]),
        ]

    def test_a_base_whose_adapters_are_all_of_another_kind_is_loaded_as_what_it_is(self, toy: Any) -> None:
        llama = "LlamaForCausalLM"
        candidates = [toy("base", "m", llama), toy("head", "m", llama, ("LORA", "SEQ_CLS"))]
        groups = [(group.kind, [one.name for one in group.candidates]) for group in engine_groups(candidates)]
        assert groups == [("causal", ["base"]), ("classification", ["head"])]

    def test_only_a_base_is_left_out_and_never_all_candidates(self, toy: Any) -> None:
        base, other = toy("base", "m", "BertModel"), toy("other", "n", "BertModel")
        full = toy("full", "f", "BertForSequenceClassification")
        kept, left_out = without_headless([base, full])
        assert ([one.name for one in kept], list(left_out)) == (["full"], ["base"])
        with pytest.raises(ModelError, match="n is an encoder without a classification head"):
            without_headless([base, full, other])
        with pytest.raises(ModelError, match="m is an encoder"):
            without_headless([base])
