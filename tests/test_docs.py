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


def test_the_readme_explains_every_mark_of_the_tables(root: Path) -> None:
    from tuneboard.report import comparison_text, results, verdict

    text = (root / "README.md").read_text(encoding="utf-8")
    statuses = [f"`{mark} {status}`" for status, mark in comparison_text._MARKS.items()]
    marks = [f"`{mark}`" for mark in (*results._MARKS.values(), *verdict.MARKS.values(), "-", "#1")]
    assert [one for one in (*statuses, *marks, "±", "↓", "`· name`", "failed]`") if one not in text] == []


def test_the_help_of_evaluate_explains_its_table_and_what_a_limit_means_for_a_group() -> None:
    text = " ".join(command_parser("evaluate").format_help().split())
    assert "of a group, N of each of its tasks" in text
    assert all(sign in text for sign in ("±", "↓", "= reused", "! failed", "x invalid"))
