"""What the README offers CI to paste."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneboard.cli.main import _parse, command_parser
from tuneboard.gates import load_policy
from tuneboard.report.verdict_markdown import marker


@pytest.fixture
def blocks(root: Path) -> dict[str, str]:
    """The section's files, by the name in their first line."""
    section = (root / "README.md").read_text(encoding="utf-8").partition("## Gate in CI\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    name = None
    for line in section.splitlines():
        if line.startswith("    # ") and line.endswith((".yaml", ".yml")):
            name = line[6:]
        elif line and not line.startswith("    "):
            name = None
        if name:
            found[name] = found.get(name, "") + line[4:] + "\n"
    return found


def test_the_policy_is_valid(blocks: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(blocks["gate.yaml"])
    policy = load_policy(path)
    assert policy.evaluate is not None and policy.on_inconclusive == "warn"


def test_the_workflow_parses_and_calls_what_there_is(blocks: dict[str, str]) -> None:
    workflow: Any = yaml.safe_load(blocks[".github/workflows/gate.yml"])
    runs = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]

    (command,) = (line for line in runs if line.startswith("tuneboard gate"))
    args = _parse(command_parser("gate"), command.split()[2:])
    assert args.junit and args.markdown and args.json_file
    done = subprocess.run(["sh", "-n", "-c", runs[-1]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_the_comment_is_updated_where_it_is_there(blocks: dict[str, str], tmp_path: Path, there: bool) -> None:
    """Runs the step with a stand-in for GitHub's command, which writes down how it is called."""
    step = yaml.safe_load(blocks[".github/workflows/gate.yml"])["jobs"]["gate"]["steps"][-1]
    (tmp_path / "gate.md").write_text(f"{marker('ship')}\n\n## FAIL\n")
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\necho "$@" >> calls\ncase "$2" in --paginate) {"echo 77" if there else ":"};; esac\n')
    gh.chmod(0o755)
    environment = {"PATH": f"{gh.parent}:/usr/bin:/bin", "COMMENTS": "repos/o/r/issues/5/comments"}
    subprocess.run(["sh", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, check=True, timeout=20)

    listed, written = (tmp_path / "calls").read_text().splitlines()
    assert f'startswith("{marker("ship")}")' in listed
    if there:
        assert written == "api --method PATCH repos/o/r/issues/comments/77 --field body=@gate.md"
    else:
        assert written == "api --method POST repos/o/r/issues/5/comments --field body=@gate.md"
