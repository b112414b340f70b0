"""What fine-tuning made, for people and programs; reads provenance only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneboard.report.numbers import number, with_nulls
from tuneboard.report.tables import format_table, harmless, one_line

#: Leaks and rows that are listed by name.
_MOST_LISTED = 5
_UNCHECKED = "not looked for: name benchmarks with --evaluate or data.leaks.against"


@dataclass(frozen=True, slots=True)
class MadeRow:
    """One candidate, or what kept it from being made."""

    name: str
    status: str
    """``trained``, ``reused`` or ``failed``."""
    folder: str | None = None
    reason: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def format_made(rows: Sequence[MadeRow]) -> str:
    """Lay out what was made: the data of each distinct preparation, a table of trainings, warnings, what can serve it.

    Args:
        rows: One per trial, in order.
    """
    made = [row for row in rows if row.provenance]
    blocks = []
    reports = {row.provenance["data"]["sha256"]: row for row in reversed(made)}
    for row in reversed(reports.values()):
        title = "data" if len(reports) == 1 else f"data of {row.name}"
        blocks.append(data_table(row.provenance["data"], title, row.provenance["checked_against"]))
    blocks.append(_training_table(rows))
    notes = [f"{row.name}: warning: {line}" for row in made for line in row.provenance["warnings"]]
    notes += [f"{row.name} failed: {row.reason}" for row in rows if row.status == "failed"]
    for line, names in _by_serving(made).items():
        notes.append(line if len(names) == len(made) else f"{', '.join(names)}: {line}")
    return harmless("\n\n".join([*blocks, "\n".join(map(one_line, notes))] if notes else blocks))


def made_json(rows: Sequence[MadeRow]) -> list[dict[str, Any]]:
    """Return JSON-able facts of what was made, curves apart."""
    keys = (
        "fingerprint",
        "training_run",
        "method",
        "kind",
        "data",
        "checked_against",
        "labels",
        "training",
        "warnings",
        "serving",
    )
    return [
        {
            "name": row.name,
            "status": row.status,
            "folder": row.folder,
            "reason": row.reason,
            **{key: with_nulls(row.provenance.get(key)) for key in keys},
        }
        for row in rows
    ]


def data_table(data: Mapping[str, Any], title: str = "data", checked: Sequence[str] | None = None) -> str:
    """Lay out what happened to the rows, step by step, and the benchmark items that were found in them.

    Args:
        data: A data report.
        title: Heads the first column.
        checked: Suites and tasks whose items were looked for; None if that is not known.
    """
    rows = [(one["path"], one["rows"], one["format"]) for one in data["sources"]]
    rows += [(one["name"], _change(one), _places(one["places"])) for one in data["steps"]]
    items = list(dict.fromkeys((leak["task"], leak["doc_id"]) for leak in data["leaks"]))
    looked = f"of {', '.join(checked)}" if checked else "" if checked is None else _UNCHECKED
    rows.append(("benchmark items found", len(items) if checked != [] else None, _leaks(data["leaks"]) or looked))
    labels = ", ".join(f"{name} {count:,}" for name, count in list(data["labels"].items())[:_MOST_LISTED])
    mixture = ", ".join(f"{name} {count:,}" for name, count in data["mixture"].items())
    rows.append(("training examples", data["train"], labels or (mixture if len(data["mixture"]) > 1 else "")))
    rows.append(("validation examples", data["validation"], ""))
    shown = [(name, f"{count:,}" if isinstance(count, int) else count, note) for name, count, note in rows]
    return format_table([title, "rows", ""], shown, "lrl")


def _training_table(rows: Sequence[MadeRow]) -> str:
    lines = []
    for row in rows:
        if not row.provenance:
            lines.append([row.name, row.status, *[None] * 6])
            continue
        trained = row.provenance["training"]
        share = trained["trained_parameters"] / max(1, trained["total_parameters"])
        lines.append(
            [
                row.name,
                row.status,
                f"{trained['trained_parameters']:,} of {trained['total_parameters']:,} ({share:.2%})",
                _loss(trained["first_validation_loss"]),
                _loss(trained["validation_loss"]),
                f"{trained['steps']:,}",
                f"{trained['seconds']:.0f} s",
                row.folder,
            ]
        )
    headers = ["candidate", "", "trained parameters", "first val. loss", "best", "steps", "time", "lies in"]
    return format_table(headers, lines, "lllrrrrl")


def _change(step: Mapping[str, Any]) -> str:
    parts = [f"-{step['removed']:,}"] if step["removed"] else []
    parts += [f"{step['flagged']:,} flagged"] if step["flagged"] else []
    return ", ".join(parts) or "0"


def _places(places: Sequence[str]) -> str:
    more = ", ..." if len(places) > _MOST_LISTED else ""
    return ", ".join(places[:_MOST_LISTED]) + more


def _leaks(leaks: Sequence[Mapping[str, Any]]) -> str:
    shown = [f"{one['task']} {one['doc_id']} in {one['place']} ({one['overlap']:.0%})" for one in leaks[:_MOST_LISTED]]
    return ", ".join(shown) + (f" and {len(leaks) - _MOST_LISTED} more" if len(leaks) > _MOST_LISTED else "")


def _by_serving(made: Sequence[MadeRow]) -> dict[str, list[str]]:
    """Return each line about what engines can serve, with the candidates that it is true of."""
    lines: dict[str, list[str]] = {}
    for row in made:
        parts = [
            f"{one['engine']}: {one['takes']}" + (f" ({one['note']})" if one["note"] else "")
            for one in row.provenance["serving"]
        ]
        lines.setdefault("served by " + "; ".join(parts), []).append(row.name)
    return lines


def _loss(value: float | None) -> str | None:
    return None if value is None else number(value)
