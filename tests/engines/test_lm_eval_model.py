"""Any engine is an lm-eval model: ``simple_evaluate`` finds with it what it finds with its own ``hf`` model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneboard.engines.lm_eval_model import EngineLM
from tuneboard.errors import EngineError

TASKS = {
    "toy_choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "num_fewshot": 2,
        "fewshot_split": "train",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "toy_text": {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    },
    "toy_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
}


@pytest.fixture(scope="module")
def manager(tmp_path_factory: Any) -> Any:
    """lm-eval's task manager over toy tasks with files of their own."""
    from lm_eval.tasks import TaskManager

    folder: Path = tmp_path_factory.mktemp("tasks")
    words = ("light", "bread", "ball", "garden", "girl", "man", "butter", "heat")
    rows = [{"question": f"What is {a}?", "choices": [f" {a}", f" {b}", " no"], "label": i % 3}
            for i, (a, b) in enumerate(zip(words, words[::-1], strict=True))]  # fmt: skip
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, config in TASKS.items():
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"train": str(data), "test": str(data)}}}
        text = json.dumps({"task": name, "test_split": "test", **source, **config})
        (folder / f"{name}.yaml").write_text(text)
    return TaskManager(include_path=str(folder), include_defaults=False)


def found(manager: Any, model: Any, **more: Any) -> Any:
    import lm_eval

    return lm_eval.simple_evaluate(
        model=model, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, log_samples=True, **more
    )


@pytest.mark.parametrize("tuned", [False, True])
def test_simple_evaluate_gives_what_it_gives_for_its_own_model(
    tuned: bool, manager: Any, tiny_model: Any, tiny_adapter: Any, make_engine: Any
) -> None:
    base = tiny_model("llama")
    adapter = tiny_adapter(base)
    arguments = {"pretrained": str(base), "dtype": "float32"} | ({"peft": str(adapter)} if tuned else {})
    theirs = found(manager, "hf", model_args=arguments, device="cpu", batch_size=1)
    ours = found(manager, EngineLM(make_engine(base, {"a": adapter}), "a" if tuned else ""))
    for name, row in theirs["results"].items():
        for key, value in row.items():
            if "," in key and "stderr" not in key:
                assert ours["results"][name][key] == pytest.approx(value, rel=1e-5), (name, key)
        for mine, reference in zip(ours["samples"][name], theirs["samples"][name], strict=True):
            assert mine["prompt_hash"] == reference["prompt_hash"]
    texts = [[sample["resps"] for sample in side["samples"]["toy_text"]] for side in (ours, theirs)]
    assert texts[0] == texts[1]


def test_a_request_that_fails_stops_lm_eval_with_the_reason(tiny_model: Any, make_engine: Any) -> None:
    from lm_eval.api.instance import Instance

    lm = EngineLM(make_engine(tiny_model("llama")))
    request = Instance(request_type="loglikelihood", doc={}, arguments=("The man", ""), idx=0)
    with pytest.raises(EngineError, match="has no token of its own"):
        lm.loglikelihood([request])


def test_chat_template_and_tokenizer_name_are_those_of_the_engine(tiny_model: Any, make_engine: Any) -> None:
    engine = make_engine(tiny_model("llama"))
    engine.tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    lm = EngineLM(engine)
    assert lm.apply_chat_template([{"role": "user", "content": "hi"}]) == "[hi]"
    assert lm.tokenizer_name == engine.tokenizer_name == str(tiny_model("llama"))
