"""Commands that run other commands, as a user would type them."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

_FLAGS = ("json", "quiet", "debug")


def run_inner(args: argparse.Namespace, command: str, words: Sequence[str]) -> int:
    """Run another command and return its exit code.

    Args:
        args: Options of the command that asks; ``--json``, ``--quiet`` and ``--debug`` are passed on.
        command: Such as ``evaluate``.
        words: Its arguments.
    """
    from tuneboard.cli.main import command_module, command_parser

    flags = [f"--{flag}" for flag in _FLAGS if getattr(args, flag)]
    return command_module(command).run(command_parser(command).parse_args([*words, *flags]))


def captured_json(command: Callable[[], int]) -> tuple[int, Any]:
    """Run something that prints JSON; return its exit code and the JSON, None where it prints nothing."""
    captured = io.StringIO()
    with redirect_stdout(captured):
        code = command()
    text = captured.getvalue().strip()
    return code, json.loads(text) if text else None
