import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tuneboard.config import SuiteTask
from tuneboard.records import TaskRef
from tuneboard.suites import TaskRequest, load_tasks, with_prompt_settings

FUNCTION = "def process(docs):\n    return docs\n"


@pytest.fixture
def coded(folder):
    folder.write("utils.py", FUNCTION)
    folder.task("one", num_fewshot=2)
    text = (folder.root / "one.yaml").read_text()
    folder.write("one.yaml", text + "process_docs: !function utils.process\n")
    return folder


def ref(folder: Path, name: str = "one", **settings) -> TaskRef:
    request = TaskRequest((SuiteTask(name),), include_paths=(folder,))
    return load_tasks(replace(request, **settings)).refs[name]


def test_identity_is_the_same_in_another_process_and_another_folder(coded, tmp_path: Path):
    moved = tmp_path / "another place" / "deeper"
    shutil.copytree(coded.root, moved)
    code = (
        "import sys; from pathlib import Path; from tuneboard.config import SuiteTask\n"
        "from tuneboard.suites import TaskRequest, load_tasks\n"
        "found = load_tasks(TaskRequest((SuiteTask('one'),), include_paths=(Path(sys.argv[1]),))).refs['one']\n"
        "print(found.fingerprint, found.data_hash)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run([sys.executable, "-c", code, str(moved)], capture_output=True, text=True, env=env, check=True)
    here = ref(coded.root)
    assert run.stdout.split()[-2:] == [here.fingerprint, here.data_hash]


def test_config_holds_no_absolute_path_and_no_address(coded):
    text = str(ref(coded.root).config)
    assert str(coded.root) not in text
    assert " at 0x" not in text
    assert "'function': 'process'" in text


@pytest.mark.parametrize("change", ["prompt", "function", "few-shot", "seed", "test data", "example data"])
def test_identity_changes_with_what_is_asked(coded, change: str):
    before, settings = ref(coded.root), {}
    if change == "prompt":
        text = (coded.root / "one.yaml").read_text()
        coded.write("one.yaml", text.replace("Q: ", "Question: "))
    elif change == "function":
        coded.write("utils.py", FUNCTION.replace("return docs", "return docs.select(range(len(docs)))"))
    elif change == "few-shot":
        settings = {"num_fewshot": 1}
    elif change == "seed":
        settings = {"seed": 99}
    else:
        rows = [{"question": f"n{n}", "choices": ["a", "b"], "answer": 0, "word": "w"} for n in range(6)]
        coded.data("test" if change == "test data" else "train", rows)
    after = ref(coded.root, **settings)
    assert after.fingerprint != before.fingerprint
    assert (after.data_hash != before.data_hash) == change.endswith("data")


def test_identity_ignores_what_is_not_read(coded):
    coded.task("zero")
    before = ref(coded.root, "zero")
    coded.data("train", [{"question": "new", "choices": ["a"], "answer": 0, "word": "w"}])
    assert ref(coded.root, "zero", seed=99) == before


def test_generation_settings_given_beside_the_tasks_own_do_not_change_it(folder):
    folder.generating("one")
    assert ref(folder.root, gen_kwargs={"max_gen_toks": 3}).fingerprint == ref(folder.root).fingerprint


def test_chat_settings_make_another_identity(folder):
    folder.task("one")
    bare = ref(folder.root)
    chat = with_prompt_settings(bare, {"chat_template": "<{{m}}>", "system_instruction": None})
    assert chat.fingerprint != bare.fingerprint
    assert with_prompt_settings(bare, {"chat_template": None, "system_instruction": ""}) == bare
    assert with_prompt_settings(bare, {"chat_template": "other"}).fingerprint != chat.fingerprint


def test_reference_says_what_the_task_is(folder):
    folder.generating("one", num_fewshot=1)
    found = ref(folder.root)
    assert (found.name, found.version, found.output_type) == ("one", "1.0", "generate_until")
    assert (found.num_fewshot, found.n_docs) == (1, 6)
    assert found.config["generation_kwargs"] == {"until": ["\n"], "max_gen_toks": 8}
