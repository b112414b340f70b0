"""Command lines of ``tuneboard evaluate`` for candidates that lie in folders, to be pasted or run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from tuneboard.cli.options import DEFAULT_DB
from tuneboard.records import Candidate, ModelRef

#: Stands in a command for a task that the user has to name.
_OWN_TASK = "TASK"


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate in a folder."""

    name: str
    folder: Path
    base: ModelRef
    """Resolved."""
    kind: str
    """``causal``, ``classification`` or ``seq2seq``."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One ``evaluate`` command."""

    words: tuple[str, ...]
    """Its arguments."""
    base: str
    """Name of the base."""
    candidates: tuple[str, ...]
    """Names of those that can be compared with it."""

    @property
    def pasted(self) -> str:
        """The command as a user would type it."""
        return shlex.join(["tuneboard", "evaluate", *self.words])

    @property
    def advice(self) -> str:
        """The command as a line for people."""
        wanted = (
            f" with a task whose choices are its labels, in place of {_OWN_TASK}" if _OWN_TASK in self.words else ""
        )
        return f"to evaluate it{wanted}: {self.pasted}"


def evaluations(candidates: Sequence[Trained], target: str | None, args: argparse.Namespace) -> list[Evaluation]:
    """Return the ``evaluate`` commands that score candidates beside their bases.

    Args:
        candidates: Those of one base, data type and quantization share a command.
        target: A suite, a suite's file, or tasks with commas; None suggests what fits.
        args: Options of the command that asks: ``db``, ``mirror``, ``include_path``.
    """
    groups: dict[tuple[str, ...], list[Trained]] = {}
    for one in candidates:
        key = (one.name,) if _stands_alone(one) else (one.base.sha256, one.base.dtype, one.base.quantization or "")
        groups.setdefault(key, []).append(one)
    rest = [word for one in args.include_path for word in ("--include-path", str(one))] + common_words(args)
    return [
        _evaluation(group, [*_target_words(target or _fitting(group[0])), *rest], args.db) for group in groups.values()
    ]


def target_names(target: str) -> tuple[str, ...]:
    """Return the names of suites and tasks in what ``--evaluate`` was given."""
    return tuple(name.strip() for name in target.split(",") if name.strip())


def common_words(args: argparse.Namespace) -> list[str]:
    """Return the options that a command passes on: the database and, where one is named, the mirror."""
    words = [] if args.db == DEFAULT_DB else ["--db", str(args.db)]
    return words + (["--mirror", str(args.mirror)] if args.mirror else [])


def base_name(base: ModelRef, db: Path) -> str:
    """Return the name that a base has in a database, or one that is free: ``base``, else that of its folder."""
    from tuneboard.store import queries

    bound = {row.name: row.fingerprint for row in queries.models(db)} if db.exists() else {}
    own = Candidate("", base).fingerprint
    if known := [name for name, fingerprint in bound.items() if fingerprint == own]:
        return known[0]
    stem = Path(base.id).name
    names = ["base", stem, *(f"{stem}-{number}" for number in range(2, len(bound) + 3))]
    return next(name for name in names if name not in bound)


def free_name(wished: str, candidate: Candidate, db: Path, taken: Collection[str]) -> str:
    """Return a name that ``evaluate`` takes for a candidate: the wished one, or one made of it.

    Args:
        wished: Used if it is free, or stands for this candidate already.
        candidate: Whose name it is to be.
        db: The database, in which a name stands for one candidate only.
        taken: Names that others have, whether the database knows them or not.
    """
    from tuneboard.store import queries

    bound = {row.name: row.fingerprint for row in queries.models(db)} if db.exists() else {}
    own = candidate.fingerprint
    names = chain([wished, f"{wished}-merged"], (f"{wished}-merged-{number}" for number in count(2)))
    return next(name for name in names if name not in taken and bound.get(name, own) == own)


def _fitting(one: Trained) -> str:
    """Return what a candidate can be evaluated on; only the user knows a task for a classifier's labels."""
    return _OWN_TASK if one.kind == "classification" else "quick"


def _evaluation(group: Sequence[Trained], rest: Sequence[str], db: Path) -> Evaluation:
    from tuneboard.tuning.folders import is_adapter

    first = group[0]
    if _stands_alone(first):
        words = ["--model", str(first.folder), "--base-name", first.name]
        return Evaluation((*words, *rest), first.name, ())
    name = base_name(first.base, db)
    words = ["--model", first.base.id] + ([] if name == "base" else ["--base-name", name])
    if first.base.revision:
        words += ["--revision", first.base.revision]
    if first.base.dtype != _own_dtype(first.base):
        words += ["--dtype", first.base.dtype]
    if first.base.quantization:
        words += ["--quantization", first.base.quantization]
    for one in group:
        words += ["--adapter" if is_adapter(one.folder) else "--candidate", f"{one.name}={one.folder}"]
    compared = (
        () if first.kind == "classification" and not _has_labels(first.base) else tuple(one.name for one in group)
    )
    return Evaluation((*words, *rest), name, compared)


def _stands_alone(one: Trained) -> bool:
    """Tell whether there is no base to compare with: that of a full classifier has no head for its labels."""
    from tuneboard.tuning.folders import is_adapter

    return one.kind == "classification" and not is_adapter(one.folder)


def _has_labels(base: ModelRef) -> bool:
    """Tell whether a base is a classifier itself: a bare encoder answers nothing."""
    from tuneboard.engines.kinds import candidate_kind

    return candidate_kind(Candidate("", base)) == "classification"


def _target_words(target: str) -> list[str]:
    from tuneboard.suites import list_suites

    is_suite = Path(target).suffix in (".yaml", ".yml") or target in {suite.name for suite in list_suites()}
    return ["--suite" if is_suite else "--tasks", target]


def _own_dtype(base: ModelRef) -> str:
    from tuneboard.candidates import resolve_model

    return resolve_model(ModelRef(base.id, base.revision)).dtype
