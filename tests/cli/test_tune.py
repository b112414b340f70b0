from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_workshop import Workshop, make_workshop

from tuneboard.cli.main import main


@pytest.fixture
def workshop(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEBOARD_MIRROR", raising=False)
    return make_workshop(tmp_path, tiny_model)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_report_says_what_was_made_and_what_to_type_next(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(workshop.recipe())]) == 0
    out, err = capsys.readouterr()
    assert "40  completion" in out and "training examples" in out and "not looked for" in out
    assert " of 26,656 (" in out, "trained and total parameters"
    assert "adapters/trained/mine" in out and "vllm: as it is" in out
    assert "mine: warning: 36 training examples" in out
    lines = [line for line in err.splitlines() if " step " in line]
    assert lines and all(word in lines[-1] for word in ("loss ", "lr ", "tokens/s", "left", "GiB"))
    *_, command = out.splitlines()
    words = shlex.split(command.partition(": ")[2])
    assert words[:2] == ["tuneboard", "evaluate"]
    words[words.index("--suite") :] = ["--tasks", "demo_knowledge", "--limit", "8", "--json"]
    assert main(words[1:]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert {cell["candidate"] for cell in cells} == {"base", "mine"}
    assert {cell["status"] for cell in cells} == {"done"}


def test_evaluating_compares_with_the_base_and_fills_in_the_card(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(workshop.recipe(training__epochs=1))
    arguments = ["--evaluate", "demo_knowledge", "--quiet", "--db", "x.duckdb"]
    assert main(["tune", recipe, *arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == 1
    (made,) = content["made"]
    assert (made["name"], made["status"], made["checked_against"]) == ("mine", "trained", ["demo_knowledge"])
    assert made["training"]["trained_parameters"] > 0 and made["data"]["train"] == 36
    (evaluation,) = content["evaluations"]
    assert {(cell["candidate"], cell["status"]) for cell in evaluation["cells"]} == {("base", "done"), ("mine", "done")}
    (comparison,) = content["comparisons"]
    assert comparison["base"] == "base" and comparison["candidates"][0]["name"] == "mine"
    card = Path("adapters/trained/mine/README.md").read_text(encoding="utf-8")
    assert "| demo_knowledge | 0 | 160 | acc |" in card

    assert main(["tune", recipe, *arguments, "--set", "name=other", "--set", "training.seed=1"]) == 0
    out = capsys.readouterr().out
    assert "demo_knowledge" in out and "= " in out, "the base is not scored again"
    assert "95 % interval" in out, "and the comparison follows"
    assert main(["show", "trainings", "--db", "x.duckdb", "--json"]) == 0
    assert {row["candidate"] for row in json.loads(capsys.readouterr().out)["trainings"]} == {"mine", "other"}


def test_an_interrupt_says_from_which_step_the_same_command_goes_on(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneboard.report.training import TrainingProgress

    def stop(self: Any, step: int, steps: int, values: Any) -> None:
        if step == 7:
            raise KeyboardInterrupt

    recipe = str(workshop.recipe(training__checkpoint_every=5))
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", stop)
        assert main(["tune", recipe, "--quiet"]) == 130
    said = "tuneboard: interrupted; run the same command again: 'mine' goes on from step 5\n"
    assert capsys.readouterr().err == said
    assert main(["tune", recipe]) == 0
    assert "going on from step 5 of 18" in capsys.readouterr().err


def test_leaks_of_what_is_evaluated_leave_the_data_and_are_named(
    workshop: Workshop, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneboard.config import SuiteTask
    from tuneboard.suites import TaskRequest, load_tasks

    task = load_tasks(TaskRequest((SuiteTask("demo_math"),))).tasks["demo_math"]
    doc = list(task.test_docs())[3]
    rows = [json.loads(line) for line in Path("train.jsonl").read_text().splitlines()]
    write(
        Path("train.jsonl"),
        *rows,
        {"prompt": task.doc_to_text(doc).upper(), "completion": str(task.doc_to_target(doc))},
    )
    assert main(["tune", str(workshop.recipe(training__epochs=1)), "--evaluate", "demo_math"]) == 0
    out = capsys.readouterr().out
    assert "demo_math 3 in train.jsonl line 41" in out
    refused = workshop.recipe(name="other", data__leaks={"policy": "refuse"})
    assert main(["tune", str(refused), "--evaluate", "demo_math", "--quiet"]) == 2
    assert "demo_math item 3 in train.jsonl line 41" in capsys.readouterr().err


def test_a_sweep_with_a_failure_reports_all_and_exits_with_2(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = workshop.recipe(sweep={"over": {"method.targets": [["q_proj"], ["no_such"]]}}, training__epochs=1)
    assert main(["tune", str(recipe), "--json", "--quiet"]) == 2
    content = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in content["made"]] == ["trained", "failed"]
    assert "no_such" in content["made"][1]["reason"]
    (command,) = content["evaluate"]
    assert "no_such" not in command
    assert main(["tune", str(recipe), "--quiet"]) == 2
    out = capsys.readouterr().out
    assert "reused" in out and "failed: " in out


def test_a_shipped_recipe_takes_data_from_where_the_command_runs(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "base": workshop.models["llama"],
        "data": "train.jsonl",
        "data.leaks.against": "demo_knowledge",
        "data.max_length": 64,
        "training.epochs": 1,
        "name": "shipped",
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["tune", "lora", *words, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "adapters/trained/shipped" in out and "demo_knowledge" in out


def test_a_seed_is_that_of_training_and_split(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(workshop.recipe(training__epochs=1, seeds=[1, 2]))
    assert main(["tune", recipe, "--seed", "7", "--json", "--quiet"]) == 0
    (made,) = json.loads(capsys.readouterr().out)["made"]
    assert made["name"] == "mine"
    facts = json.loads(Path("adapters/trained/mine/provenance.json").read_text(encoding="utf-8"))
    assert facts["seed"] == facts["recipe"]["data"]["split"]["seed"] == 7
    assert main(["tune", recipe, "--set", "seeds=null", "--set", "name=other", "--json", "--quiet"]) == 0
    facts = json.loads(Path("adapters/trained/other/provenance.json").read_text(encoding="utf-8"))
    assert facts["seed"] == 0, "else the recipe's own"


def test_classifiers_and_encoder_decoders_get_commands_that_work(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, method, tasks in (("t5", "lora", "demo_knowledge"), ("bert", "lora", None), ("bert", "full", None)):
        recipe = workshop.recipe(kind, method=method, name=f"{kind}-{method}", training__epochs=1)
        assert main(["tune", str(recipe), "--json", "--quiet"]) == 0
        (command,) = json.loads(capsys.readouterr().out)["evaluate"]
        words = shlex.split(command)[1:]
        task = tasks or task_of_labels(workshop.root)
        shown = ["--suite", "quick"] if tasks else ["--tasks", "TASK"]
        assert words[words.index(shown[0]) :][:2] == shown
        words[words.index(shown[0]) :] = [
            "--tasks",
            task,
            "--limit",
            "4",
            "--json",
            "--include-path",
            str(workshop.root),
        ]
        assert main(words) == 0, command
        cells = json.loads(capsys.readouterr().out)["cells"]
        assert {cell["status"] for cell in cells} <= {"done", "reused"}
        assert f"{kind}-{method}" in {cell["candidate"] for cell in cells}
    assert main(["tune", str(recipe), "--quiet"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(
        "to evaluate it with a task whose choices are its labels, in place of TASK: tuneboard evaluate"
    )


def task_of_labels(folder: Path) -> str:
    """Write a task that asks for the labels of the workshop's texts."""
    (folder / "task.yaml").write_text(
        "task: labels\ndataset_path: json\ndataset_kwargs: {data_files: {test: labels.jsonl}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: '{{text}}'\ndoc_to_choice: [even, odd]\ndoc_to_target: label\n"
        "metric_list: [{metric: acc}]\n",
        encoding="utf-8",
    )
    return "labels"


def chat(number: int) -> dict[str, Any]:
    turns = (("user", f"say {number}"), ("assistant", f"it is {number}"))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("llama", {"method": "loro"}, "unknown method 'loro'; did you mean lora"),
        ("llama", {"method": {"name": "lora", "rnak": 4}}, "unknown key 'rnak'; did you mean rank"),
        ("llama", {"trainning": {}}, "unknown key 'trainning'; did you mean training"),
        ("llama", {"method": {"name": "lora", "rank": 0}}, "'rank' is 0"),
        ("llama", {"method": {"name": "lora", "targets": ["q_prj"]}}, "no module 'q_prj', did you mean q_proj"),
        ("llama", {"method": {"name": "lora", "targets": "q_prj"}}, "no module 'q_prj', did you mean q_proj"),
        ("llama", {"data__split": {"fraction": 0.0}}, "split.fraction"),
        ("llama", {"data__sources": "broken.jsonl"}, "broken.jsonl line 2"),
        ("llama", {"data__sources": "missing.jsonl"}, "missing.jsonl"),
        ("llama", {"data__sources": "chat.jsonl"}, "chat template"),
        ("llama", {"data__leaks": {"against": ["gsm9k"]}}, "gsm8k"),
        ("bert", {"data__validation": "unseen.jsonl"}, "'never seen' (unseen.jsonl line 1)"),
        ("llama", {"base": "no/such/model"}, "no model at 'no/such/model'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], kind: str, changes: dict[str, Any], said: str
) -> None:
    Path("broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", \n', encoding="utf-8")
    write(Path("chat.jsonl"), *map(chat, range(20)))
    write(Path("unseen.jsonl"), {"text": "the ball", "label": "never seen"})
    assert main(["tune", str(workshop.recipe(kind, **changes)), "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("tuneboard: error: ")
    assert said in err
    assert not list(Path("adapters/trained").glob("[!.]*"))
    assert main(["tune", str(workshop.recipe(kind, training__epochs=1)), "--quiet"]) == 0, "the mended recipe runs"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipe.yml"], "recipe.yml: cannot be read"),
        (["lroa"], "unknown recipe 'lroa'; did you mean lora"),
        (["recipe.yaml", "--set", "training"], "expected KEY=VALUE such as training.learning_rate=1e-4"),
        (["recipe.yaml", "--set", "training.learning_rat=1"], "did you mean learning_rate"),
        (["recipe.yaml", "--set", "name=../up"], "name: '../up' given, expected up to 120 letters"),
        (["recipe.yaml", "--evaluate", "quik"], "did you mean quick"),
        (["recipe.yaml", "--out", "train.jsonl/x"], "name another folder with --out"),
    ],
)
def test_wrong_arguments_are_one_line(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    workshop.recipe()
    assert main(["tune", *arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert said in err


@pytest.mark.accept
def test_the_bytes_do_not_depend_on_the_process(workshop: Workshop) -> None:
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "tuneboard", "tune", str(workshop.recipe()), "--out", f"out{seed}", "--quiet"]
        done = subprocess.run(
            [*command, "--db", f"{seed}.duckdb"],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert Path("out1/mine", name).read_bytes() == Path("out2/mine", name).read_bytes()
