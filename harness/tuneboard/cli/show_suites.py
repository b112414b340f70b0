"""What ``tuneboard show`` says of suites."""

from __future__ import annotations

from typing import Any


def suites() -> list[dict[str, Any]]:
    """Return the shipped suites, with how many tasks and groups each names."""
    from tuneboard.suites import list_suites

    return [
        {"suite": one.name, "tasks": len(one.tasks), "description": one.description, "path": str(one.path)}
        for one in list_suites()
    ]


def suite_tasks(name: str) -> list[dict[str, Any]]:
    """Return the tasks and groups of a suite, with role, few-shot, limit and headline where it sets them."""
    from tuneboard.suites import find_suite

    return [
        {
            "task": one.task,
            "role": one.role,
            "few-shot": one.num_fewshot,
            "limit": one.limit,
            "headline": one.headline,
        }
        for one in find_suite(name).tasks
    ]


def suite_text(name: str) -> str:
    """Lay out the tasks of a suite; a dash stands for what the task itself says, or for all documents."""
    from tuneboard.report.tables import format_table

    rows = suite_tasks(name)
    shown = [["-" if value is None else str(value) for value in row.values()] for row in rows]
    return format_table(list(rows[0]), shown, "llrrl")
