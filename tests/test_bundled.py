import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tuneboard import bundled
from tuneboard.errors import DataError

FOLDERS = ("tasks_dir", "suites_dir", "recipes_dir", "app_dir")


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("tuneboard-*.whl")
    return built


def where_installed(python: Path, path: Path | None = None) -> dict[str, Path]:
    program = f"from tuneboard import bundled\nfor name in {FOLDERS}: print(name, getattr(bundled, name)())"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    # Outside the checkout, so that nothing of it is found by accident.
    output = subprocess.run(
        [python, "-c", program],
        env=environment,
        cwd=python.anchor,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    return {name: Path(folder) for name, _, folder in (line.partition(" ") for line in output.splitlines())}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_checkout_finds_its_own_folders(root: Path, name: str) -> None:
    folder = getattr(bundled, name)()
    assert folder.is_dir()
    assert folder.is_relative_to(root)


def test_a_checkout_knows_its_root(root: Path) -> None:
    assert bundled.checkout_root() == root


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_PACKAGE", tmp_path / "a" / "tuneboard")
    with pytest.raises(DataError, match=r"'tasks'.*_bundled.*install tuneboard again"):
        bundled.tasks_dir()


def test_the_wheel_carries_every_shipped_file(root: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    git = subprocess.run(
        ["git", "ls-files", "--cached", "tasks", "leaderboard", "adapters/recipes"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if git.returncode:
        pytest.skip("not a git checkout: the list of shipped files is not known")
    missing = [name for name in git.stdout.splitlines() if f"tuneboard/_bundled/{name}" not in names]
    assert not missing
    assert {"tuneboard/cli/main.py", "tuneboard/store/schema.sql", "tuneboard/_bundled/leaderboard/README.md"} <= names


def test_an_unpacked_wheel_finds_its_folders_inside_the_package(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    found = where_installed(Path(sys.executable), tmp_path)
    assert set(found) == set(FOLDERS)
    assert all(folder.is_relative_to(tmp_path / "tuneboard" / "_bundled") for folder in found.values())


@pytest.mark.accept
def test_a_wheel_in_a_fresh_environment_finds_its_folders(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, timeout=120)
    found = where_installed(python)
    assert all(folder.is_relative_to(tmp_path / "venv") for folder in found.values())
