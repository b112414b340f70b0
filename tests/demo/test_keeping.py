import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from unprivileged import obeying_permissions

from tuneboard.demo import TinySettings, demo_models, keeping
from tuneboard.errors import MissingExtra, StoreError


def refuse(line: str) -> None:
    raise AssertionError(f"made again: {line}")


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_finished_models_are_taken_as_they_are(kept: Path, fast: TinySettings) -> None:
    models = demo_models(kept, refuse, fast)
    assert (models.base / "model.safetensors").is_file()
    assert list(models.adapters) == ["facts", "maths"]
    assert all((path / "adapter_model.safetensors").is_file() for path in models.adapters.values())
    assert len(models.tag) == 6


def test_other_settings_get_a_folder_of_their_own(kept: Path, fast: TinySettings) -> None:
    with pytest.raises(AssertionError, match="made again"):
        demo_models(kept, refuse, replace(fast, seed=fast.seed + 1))


def test_interrupted_making_leaves_nothing_half_made(tmp_path: Path, fast: TinySettings) -> None:
    def interrupt(line: str) -> None:
        if "adapter maths" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_models(tmp_path, interrupt, fast)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []
    assert demo_models(tmp_path, lambda line: None, fast).base.is_dir()


def test_killed_making_is_cleared_away_by_the_next(tmp_path: Path, fast: TinySettings) -> None:
    source = (
        "import os, signal, pathlib, conftest\n"
        "from tuneboard.demo import demo_models\n"
        "def note(line):\n"
        "    if 'adapter maths' in line: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"demo_models(pathlib.Path({str(tmp_path)!r}), note, conftest.FAST)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ended = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert visible(tmp_path) == []
    assert list(tmp_path.glob(".building-*"))
    demo_models(tmp_path, lambda line: None, fast)
    assert len(visible(tmp_path)) == 1
    assert not list(tmp_path.glob(".building-*"))


def test_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path, fast: TinySettings) -> None:
    (tmp_path / "demo").write_text("a file stands here")
    with pytest.raises(StoreError, match=r"cannot be kept in .*demo \(File exists\); .*--db FOLDER"):
        demo_models(tmp_path / "demo", refuse, fast)


def test_read_only_folder_is_one_clear_line(tmp_path: Path, fast: TinySettings) -> None:
    tmp_path.chmod(0o555)

    def check() -> None:
        with pytest.raises(StoreError, match=r"Permission denied.*--db FOLDER"):
            demo_models(tmp_path / "demo", refuse, fast)

    obeying_permissions(check)


def test_missing_torch_names_its_install_command(
    tmp_path: Path, fast: TinySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(MissingExtra, match=r"pip install 'tuneboard\[transformers\]'"):
        demo_models(tmp_path, refuse, fast)
    assert list(tmp_path.iterdir()) == []
