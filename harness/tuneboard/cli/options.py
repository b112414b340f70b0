"""Options and value types that commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from tuneboard.errors import UsageError

DEFAULT_DB = Path("results/tuneboard.duckdb")

#: lm-eval's own few-shot seed, so that prompts are the same as there.
DEFAULT_SEED = 1234

#: Environment variable that stands in for ``--mirror``.
MIRROR_VARIABLE = "TUNEBOARD_MIRROR"

#: How commands choose among the results of a candidate and a task, for ``--run`` in their help.
RUN_RULE = (
    "results of this run; without it the newest of each candidate and task count, and a note tells where an earlier "
    "one has more documents"
)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ``UsageError`` where argparse would print a usage text and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong together with the command that explains it."""
        raise UsageError(f"{message}; see: {self.prog} --help")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes."""
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--db", type=file_path, default=DEFAULT_DB, metavar="FILE", help=f"database (default {DEFAULT_DB})"
    )
    variable = os.environ.get(MIRROR_VARIABLE)
    group.add_argument(
        "--mirror",
        type=existing_folder,
        default=Path(variable) if variable else None,
        metavar="DIR",
        help=f"folder to read the hub's data sets from, instead of the hub (default ${MIRROR_VARIABLE})",
    )
    if not any("--seed" in action.option_strings for action in parser._actions):  # `tune` says what its own means
        group.add_argument(
            "--seed",
            type=non_negative_int,
            default=DEFAULT_SEED,
            metavar="N",
            help=f"random seed (default {DEFAULT_SEED})",
        )
    group.add_argument("--quiet", action="store_true", help="no progress and no notes on stderr")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_include_path(group: Any) -> None:
    """Add the option that names folders with tasks of the user's own to a parser or a group of one."""
    group.add_argument(
        "--include-path",
        type=existing_folder,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with task YAML of your own; may be given many times",
    )


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, 1)


def non_negative_int(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole(text, 0)


def positive_float(text: str) -> float:
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' given, expected a number above 0")
    return value


def file_path(text: str) -> Path:
    """Read the path of a file."""
    if not text:
        raise argparse.ArgumentTypeError("'' given, expected the path of a file")
    return Path(text)


def output_file(text: str) -> Path:
    """Read the path of a file to write; its folder must be there, or long work would fail at its end."""
    path = file_path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write '{text}': there is no folder '{path.parent}'; make it first")
    return path


def existing_folder(text: str) -> Path:
    """Read the path of a folder that is there."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder '{text}'")
    return path


def name_and_value(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``, such as ``--adapter mine=runs/lora``."""
    return _pair(text, "NAME=VALUE such as mine=runs/lora")


def key_and_value(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``, such as ``--set training.learning_rate=1e-4``."""
    return _pair(text, "KEY=VALUE such as training.learning_rate=1e-4")


def _pair(text: str, expected: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"'{text}' given, expected {expected}")
    return name.strip(), value.strip()


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"'{text}' given, expected a whole number of at least {least}")
    return value
