"""Options and value types that commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from tuneboard.errors import UsageError

DEFAULT_DB = Path("results/tuneboard.duckdb")

#: lm-eval's own few-shot seed, so that prompts are the same as there.
DEFAULT_SEED = 1234

#: Environment variable that stands in for ``--mirror``.
MIRROR_VARIABLE = "TUNEBOARD_MIRROR"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ``UsageError`` where argparse would print a usage text and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong together with the command that explains it."""
        raise UsageError(f"{message}; see: {self.prog} --help")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes."""
    group = parser.add_argument_group("common options")
    group.add_argument("--db", type=Path, default=DEFAULT_DB, metavar="FILE", help=f"database (default {DEFAULT_DB})")
    variable = os.environ.get(MIRROR_VARIABLE)
    group.add_argument(
        "--mirror",
        type=existing_folder,
        default=Path(variable) if variable else None,
        metavar="DIR",
        help=f"local copy of the hub's data sets; nothing is fetched for what is in it (default ${MIRROR_VARIABLE})",
    )
    group.add_argument(
        "--seed", type=non_negative_int, default=DEFAULT_SEED, metavar="N", help=f"random seed (default {DEFAULT_SEED})"
    )
    group.add_argument("--quiet", action="store_true", help="no progress and no notes on stderr")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


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


def existing_folder(text: str) -> Path:
    """Read the path of a folder that is there."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder '{text}'")
    return path


def name_and_value(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``, such as ``--adapter mine=runs/lora``."""
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"'{text}' given, expected NAME=VALUE such as mine=runs/lora")
    return name.strip(), value.strip()


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"'{text}' given, expected a whole number of at least {least}")
    return value
