"""Which tasks ``tuneboard evaluate`` asks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from tuneboard.cli.options import add_include_path, file_path, non_negative_int, positive_int
from tuneboard.errors import UsageError

if TYPE_CHECKING:
    from tuneboard.config import Suite


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add the options that name tasks, and say how much of them is asked."""
    tasks = parser.add_argument_group("tasks")
    tasks.add_argument("--suite", metavar="S", help="name of a suite (tuneboard show suites) or a YAML file")
    tasks.add_argument("--tasks", metavar="a,b", help="tasks, groups or patterns of lm-eval or your own")
    tasks.add_argument(
        "--task-file",
        type=file_path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML of one task on rows of your own (see tasks/examples); may be given many times",
    )
    add_include_path(tasks)
    tasks.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="at most N documents a task; of a group, N of each of its tasks (mmlu: 57); wins over the suite's limits",
    )
    tasks.add_argument(
        "--repeat", type=positive_int, default=1, metavar="K", help="evaluate K times, with other orders and seeds"
    )
    tasks.add_argument("--num-fewshot", type=non_negative_int, metavar="N", help="examples in the prompt")


def asked_suite(args: argparse.Namespace) -> Suite:
    """Return the tasks that the options name.

    Raises:
        UsageError: They name none, or contradict each other; or a file of a suite or task cannot be read.
        UnknownName: No suite is called so.
        ConfigError: With every problem of a suite's or a task's file.
    """
    from tuneboard.config import Suite, SuiteTask
    from tuneboard.suites import find_suite, named_tasks

    if args.suite and args.tasks:
        raise UsageError(f"--suite {args.suite} and --tasks {args.tasks} are both given; leave one of them out")
    if not (args.suite or args.tasks or args.task_file):
        raise UsageError(
            "give either --suite S or --tasks a,b (names: tuneboard show suites, tuneboard show tasks), "
            "or --task-file FILE"
        )
    own = tuple(named_tasks(args.task_file))
    if args.suite:
        suite = find_suite(args.suite)
        return replace(suite, tasks=(*suite.tasks, *own))
    if args.tasks is None:
        return Suite("", "", own)
    names = [name.strip() for name in args.tasks.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--tasks '{args.tasks}' names no task; expected names with commas such as hellaswag,gsm8k")
    return Suite("", "", (*(SuiteTask(name) for name in dict.fromkeys(names)), *own))
