import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: What no command may load before it needs it.
HEAVY = ("torch", "transformers", "vllm", "peft", "lm_eval", "streamlit", "datasets", "pandas", "scipy", "pydantic")


def loaded_by(program: str, cwd: Path) -> set[str]:
    ending = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    environment = {key: value for key, value in os.environ.items() if key != "TUNEBOARD_MIRROR"}
    command = [sys.executable, "-c", program + ending]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def run_command(*arguments: str) -> str:
    return f"from tuneboard.cli.main import main\nmain({list(arguments)!r})"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("evaluate", "--help"),
        ("tune", "--help"),
        ("merge", "--help"),
        ("doctor", "--help"),
        ("demo", "--help"),
        ("show", "runs"),
        ("show", "recipes"),
        ("export", "-h"),
        ("leaderboard", "--help"),
        ("publish", "--help"),
    ],
)
def test_these_commands_load_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not loaded_by(run_command(*arguments), tmp_path) & set(HEAVY)


@pytest.mark.parametrize("arguments", [("--help",), ("evaluate", "--help"), ("tune", "--help")])
def test_help_loads_no_database_and_no_display(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not loaded_by(run_command(*arguments), tmp_path) & {"duckdb", "numpy", "pyarrow", "rich", "yaml"}


@pytest.mark.parametrize(
    "module",
    [
        "records",
        "errors",
        "bundled",
        "config",
        "stats",
        "headline",
        "store.database",
        "report.results",
        "report.progress",
        "report.training",
        "report.made",
        "machine",
        "store.trainings",
        "store.listing",
        "store.snapshots",
        "tuning.records",
        "tuning.recipe",
        "tuning.schema",
        "tuning.sweeps",
        "tuning.serving",
        "tuning.cards",
        "tuning.tune",
        "tuning.publishing",
    ],
)
def test_core_modules_import_without_the_machine_learning_stack(tmp_path: Path, module: str) -> None:
    if importlib.util.find_spec("tuneboard." + module) is None:
        pytest.skip(f"there is no module {module}")
    assert not loaded_by(f"import tuneboard.{module}", tmp_path) & set(HEAVY[:6])
