"""Every method on every kind of model that it fits: trained, saved, loaded by the engine, evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_workshop import Workshop, make_workshop

from tuneboard.cli.main import main
from tuneboard.tuning.methods import find_method, method_names

MODELS = {"causal": "llama", "classification": "bert", "seq2seq": "t5"}
PAIRS = [(name, kind) for name in method_names() for kind in sorted(find_method(name).KINDS)]
SETTINGS: dict[str, dict[str, Any]] = {
    "partial": {"freeze_layers": 1},
    "bottleneck": {"size": 8},
    "prefix": {"virtual_tokens": 4},
    "prompt": {"virtual_tokens": 4},
    "lora": {"rank": 4, "dropout": 0.0},
    "qlora": {"rank": 4, "dropout": 0.0},
}
RATES = {"full": 1e-3, "partial": 3e-3, "prefix": 5e-2, "prompt": 0.1, "ia3": 3e-2}
# What a few virtual tokens make of a random encoder is slow to be felt at its head.
SLOW = {("prefix", "classification"): 5e-2, ("prompt", "classification"): 1e-2}

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: '{{{{{text}}}}}'
doc_to_choice: {choices}
doc_to_target: {answer}
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def workshop(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEBOARD_MIRROR", raising=False)
    labels = TASK.format(name="labels", data="labels.jsonl", text="text", choices="[even, odd]", answer="label")
    colours = "[red, green, blue, black, white, brown, grey, pink]"
    answers = TASK.format(name="answers", data="train.jsonl", text="prompt", choices=colours, answer="completion")
    for name, text in (("labels", labels), ("answers", answers)):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return make_workshop(tmp_path, tiny_model)


@pytest.mark.accept
@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_a_method_learns_and_its_candidate_answers(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], method: str, kind: str
) -> None:
    recipe = workshop.recipe(
        MODELS[kind],
        method={"name": method, **SETTINGS.get(method, {})},
        training__epochs=40 if (method, kind) in SLOW else 6,
        training__learning_rate=SLOW.get((method, kind), RATES.get(method, 1e-2)),
        data__leaks={"policy": "list"},
        data__split={"fraction": 0.2},
        kind=kind,
    )
    task = "labels" if kind == "classification" else "answers"
    arguments = ["--evaluate", task, "--include-path", ".", "--json", "--quiet"]
    assert main(["tune", str(recipe), *arguments]) == 0
    content = json.loads(capsys.readouterr().out)
    (made,) = content["made"]
    trained = made["training"]
    assert trained["validation_loss"] < trained["first_validation_loss"]
    assert 0 < trained["trained_parameters"] <= trained["total_parameters"]
    cells = {cell["candidate"]: cell for cell in content["evaluations"][0]["cells"]}
    assert (cells["mine"]["status"], cells["mine"]["n"]) == ("done", 40)
