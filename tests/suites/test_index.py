import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuneboard.errors import ConfigError, UsageError
from tuneboard.suites import index, list_task_names
from tuneboard.suites.index import task_index


@pytest.fixture
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small stand-in for lm-eval's own task folder, with a cache of its own."""
    root = tmp_path / "builtin"
    (root / "area").mkdir(parents=True)
    (root / "area" / "_template_yaml").write_text("tag: shared\noutput_type: multiple_choice\n")
    (root / "area" / "one.yaml").write_text("include: _template_yaml\ntask: one\n")
    (root / "area" / "two.yaml").write_text("include: _template_yaml\ntask: two\ntag: [shared, second]\n")
    (root / "area" / "both.yaml").write_text("group: both\ntask: [one, two]\n")
    (root / "coded.yaml").write_text("task: coded\nclass: !function coded.Task\n")
    (root / "broken.yaml").write_text("task: [\n")
    monkeypatch.setattr(index, "_lm_eval_tasks", lambda: root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "tuneboard").iterdir())


def test_tasks_groups_tags_and_python_tasks_are_told_apart(builtin: Path):
    found = task_index()
    assert {name: found[name].kind for name in ("one", "two", "both", "coded", "shared", "second")} == {
        "one": "task", "two": "task", "both": "group", "coded": "class", "shared": "tag", "second": "tag",
    }  # fmt: skip
    assert found["shared"].members == ("one", "two")
    assert found["second"].members == ("two",)
    assert found["one"].path == builtin / "area" / "one.yaml"


def test_index_equals_that_of_lm_eval_for_real_folders():
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Kind, TaskIndex

    root = Path(index._lm_eval_tasks() or "")
    kinds = {Kind.TASK: "task", Kind.PY_TASK: "class", Kind.GROUP: "group", Kind.TAG: "tag"}
    assert TaskManager is not None
    for name in ("mmlu", "super_glue", "bbh", "squadv2", "arc", "leaderboard", "truthfulqa"):
        theirs = TaskIndex.build([root / name])
        ours = index._scan(root / name, strict=False)
        assert {key: (kinds[one.kind], one.yaml_path) for key, one in theirs.items()} == {
            key: (one.kind, one.path) for key, one in ours.items()
        }
        tags = {key: tuple(sorted(one.tags)) for key, one in theirs.items() if one.kind is Kind.TAG}
        assert tags == {key: one.members for key, one in ours.items() if one.kind == "tag"}


@pytest.mark.accept
def test_index_equals_that_of_lm_eval_for_all_of_its_tasks():
    from lm_eval.tasks import TaskManager

    theirs = {name: entry.yaml_path for name, entry in TaskManager().task_index.items()}
    ours = index._scan(Path(index._lm_eval_tasks() or ""), strict=False)
    assert theirs == {name: entry.path for name, entry in ours.items()}


def test_second_look_reads_no_task_file(builtin: Path, monkeypatch: pytest.MonkeyPatch):
    first = task_index()
    scanned: list[Path] = []
    scan = index._scan
    monkeypatch.setattr(index, "_scan", lambda root, strict: scanned.append(root) or scan(root, strict=strict))
    assert task_index() == first
    assert builtin not in scanned


@pytest.mark.parametrize("change", ["edit", "add", "remove", "template"])
def test_changed_task_files_are_noticed(builtin: Path, change: str):
    task_index()
    if change == "edit":
        (builtin / "area" / "one.yaml").write_text("task: one_renamed\n")
        assert "one_renamed" in task_index()
    elif change == "add":
        (builtin / "area" / "three.yaml").write_text("task: three\n")
        assert "three" in task_index()
    elif change == "remove":
        (builtin / "area" / "one.yaml").unlink()
        assert "one" not in task_index()
    else:
        (builtin / "area" / "_template_yaml").write_text("tag: other_tag\n")
        assert task_index()["other_tag"].members == ("one",)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', '{"format": 99, "signature": 1}', "\x00"])
def test_broken_cache_is_rebuilt(builtin: Path, tmp_path: Path, content: str):
    whole = task_index()
    (file,) = kept(tmp_path)
    file.write_text(content)
    assert task_index() == whole
    assert json.loads(file.read_text())["entries"]


def test_half_written_entries_are_rebuilt(builtin: Path, tmp_path: Path):
    whole = task_index()
    (file,) = kept(tmp_path)
    text = json.loads(file.read_text())
    file.write_text(json.dumps(text | {"entries": [["one"]]}))
    assert task_index() == whole


def test_cache_that_cannot_be_written_does_no_harm(builtin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "one" in task_index()


def test_writers_at_once_leave_one_whole_file(builtin: Path, tmp_path: Path):
    whole = task_index()
    for file in kept(tmp_path):
        file.unlink()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: task_index(), range(24)))
    assert all(one == whole for one in found)
    (file,) = kept(tmp_path)
    assert json.loads(file.read_text())["format"] == 2


def test_own_folder_wins_over_builtin_and_a_later_one_over_both(builtin: Path, tmp_path: Path):
    for name in ("first", "second_folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text("task: one\ntag: shared\n")
    first, second = tmp_path / "first", tmp_path / "second_folder"
    assert task_index([first])["one"].path == first / "x.yaml"
    assert task_index([first, second])["one"].path == second / "x.yaml"
    assert task_index([first])["shared"].members == ("one", "two")


def test_shipped_tasks_are_listed_beside_builtin_ones(builtin: Path):
    names = list_task_names()
    assert names["demo_knowledge"] == "task"
    assert names["one"] == "task"
    assert list(names) == sorted(names)


def test_folder_that_is_missing_or_empty_is_refused(tmp_path: Path, builtin: Path):
    with pytest.raises(UsageError, match="is no folder"):
        task_index([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no \.yaml file"):
        task_index([tmp_path / "empty"])


@pytest.mark.parametrize("text", ["task: [\n", "- a\n- b\n", "include: gone.yaml\ntask: x\n", "include: bad.yaml\n"])
def test_broken_file_in_the_users_folder_is_named(tmp_path: Path, builtin: Path, text: str):
    own = tmp_path / "mine"
    own.mkdir()
    (own / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        task_index([own])


@pytest.mark.alone
def test_listing_names_imports_neither_lm_eval_nor_torch():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from tuneboard.suites import list_suites, list_task_names\n"
        "names = list_task_names(); list_suites(); seconds = time.perf_counter() - start\n"
        "assert len(names) > 10000 and names['mmlu'] == 'group'\n"
        "heavy = {'torch', 'lm_eval', 'datasets', 'transformers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(seconds)"
    )
    list_task_names()
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ) for _ in "abc"]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert min(float(run.stdout) for run in runs) < 1.0
