import re
from pathlib import Path

import pytest

from tuneboard.cli.main import COMMANDS, command_parser


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_documents_every_command(root: Path, name: str) -> None:
    assert f"tuneboard {name}" in (root / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_no_option_that_is_not_there(root: Path) -> None:
    options = {text for name in COMMANDS for action in command_parser(name)._actions for text in action.option_strings}
    lines = [line for line in (root / "README.md").read_text(encoding="utf-8").splitlines() if "tuneboard " in line]
    assert {found for line in lines for found in re.findall(r"(?<!\S)--[a-z][a-z-]*", line)} <= options


def test_the_readme_names_no_make_target_that_is_not_there(root: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`", (root / "README.md").read_text(encoding="utf-8")))
    assert named
    assert named <= targets


def test_the_readme_links_to_files_that_are_there(root: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", (root / "README.md").read_text(encoding="utf-8"))
    assert all((root / link).exists() for link in links)
