import importlib.util
from pathlib import Path
from typing import Any

import datasets
import pytest

from tuneboard.config import SuiteTask
from tuneboard.suites import TaskRequest, build_requests, find_suite, load_tasks

PATCH = Path(__file__).resolve().parent.parent / "parity" / "mirror_patch.py"
FEW = {"mmlu_anatomy": 5, "gsm8k": 5, "truthfulqa_mc1": 0, "truthfulqa_gen": 0, "arc_easy": 0}


def lm_eval_with_mirror(mirror: Path) -> Any:
    spec = importlib.util.spec_from_file_location("mirror_patch", PATCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lm_eval_with_mirror(mirror)


def plain(mirror: Path, names: list[str], shots: dict[str, int], folders: list[str]) -> dict[str, Any]:
    """Load tasks by lm-eval alone, as ``simple_evaluate`` does."""
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with lm_eval_with_mirror(mirror):
            known = lm_eval.tasks.TaskManager(include_defaults=False, include_path=[root / one for one in folders])
            tasks = known.load(names)["tasks"]
    finally:
        if not shown:
            datasets.enable_progress_bars()
    for name, task in tasks.items():
        task.set_config("num_fewshot", shots.get(name, shots.get(name.partition("_")[0], 0)))
        task.set_fewshot_seed(1234)
    return tasks


def fields(instances: list[Any]) -> list[tuple[Any, ...]]:
    return [(one.request_type, one.arguments, one.doc, one.doc_id, one.idx, one.task_name) for one in instances]


def test_prompts_equal_those_of_lm_eval(mirror: Path):
    theirs = plain(mirror, list(FEW), FEW, ["mmlu/default", "gsm8k", "truthfulqa", "arc"])
    asked = tuple(SuiteTask(name, num_fewshot=shots, limit=40) for name, shots in FEW.items())
    loaded = load_tasks(TaskRequest(asked, mirror=mirror))
    for name, task in theirs.items():
        task.build_all_requests(limit=40)
        assert fields(build_requests(loaded.tasks[name], loaded.doc_ids[name])) == fields(task.instances)


@pytest.mark.accept
@pytest.mark.timeout(900)
def test_every_prompt_of_core_equals_that_of_lm_eval(mirror: Path):
    asked = tuple(task for task in find_suite("core").tasks if task.task != "humaneval")
    loaded = load_tasks(TaskRequest(asked, mirror=mirror))
    shots = {"mmlu": 5, "gsm8k": 5}
    theirs = plain(mirror, [task.task for task in asked], shots, ["mmlu/default", "hellaswag", "gsm8k", "truthfulqa"])
    assert set(theirs) == set(loaded.tasks)
    for name, task in theirs.items():
        task.build_all_requests()
        assert fields(build_requests(loaded.tasks[name], loaded.doc_ids[name])) == fields(task.instances)


@pytest.fixture
def drawing(folder):
    """A task whose examples are drawn at random, and one that draws them from the documents it asks."""
    folder.task("one", num_fewshot=2)
    folder.task("same", num_fewshot=2, fewshot_split="test", training_split=None)
    request = TaskRequest((SuiteTask("one"), SuiteTask("same")), include_paths=(folder.root,))
    return load_tasks(request).tasks


@pytest.mark.parametrize("name", ["one", "same"])
def test_part_of_a_task_gets_the_prompts_of_the_whole(drawing, name: str):
    task = drawing[name]
    whole = {(one.doc_id, one.idx): one.arguments for one in build_requests(task, range(6))}
    part = {(one.doc_id, one.idx): one.arguments for one in build_requests(task, [1, 4])}
    assert {doc for doc, _ in part} == {1, 4}
    assert part == {key: whole[key] for key in part}
    assert len({prompt.split("Q: ")[1] for prompt, _ in whole.values()}) > 1


@pytest.mark.parametrize("name", ["one", "same"])
def test_building_twice_gives_the_same_prompts(drawing, name: str):
    task = drawing[name]
    assert fields(build_requests(task, range(6))) == fields(build_requests(task, range(6))) == fields(task.instances)


def test_own_document_is_never_its_example(drawing):
    for one in build_requests(drawing["same"], range(6)):
        shown = one.arguments[0].split("Q: ")[1:]
        assert len(shown) == 3
        assert len(set(shown)) == 3


def test_chat_settings_reach_the_prompt(drawing):
    def render(chat: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in chat) + ("<assistant>" * add_generation_prompt)

    requests = build_requests(
        drawing["one"],
        [0],
        system_instruction="Be brief.",
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        chat_template=render,
    )
    prompt, continuation = requests[0].arguments
    assert prompt.startswith("<system>Be brief.<user>Q: ")
    assert prompt.count("<assistant>") == 3
    assert not continuation.startswith(" ")
