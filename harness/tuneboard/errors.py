"""Exceptions that tuneboard raises on purpose.

    TuneboardError                 anything a user can act on; the command line prints it as one line
    ├── UsageError                 the command, a YAML file or an option is wrong
    │   ├── ConfigError            a YAML file has unknown keys or bad values (all of them in one message)
    │   └── UnknownName            no task, suite, candidate, ... of that name; carries near matches
    ├── ModelError                 a base model cannot be loaded
    │   └── AdapterError           an adapter does not fit its base, or is in a format that is refused
    ├── DataError                  a data set, split or column is missing
    │   └── BaselineMismatch       a baseline does not hold what is to be compared with it
    ├── EngineError                an engine could not answer
    │   └── OutOfMemory            even the smallest batch did not fit
    ├── SandboxError               generated code cannot be isolated on this machine
    ├── StoreError                 the database or a journal cannot be read or written
    │   ├── StoreBusy              another process holds the database longer than the wait allowed
    │   ├── StoreTooNew            a newer tuneboard wrote this database
    │   └── NameTaken              a candidate's name is bound to other weights in this database
    └── MissingExtra               an optional package is not installed; carries its pip command

Every message says what was given, what was expected and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Exit code of the command line for every TuneboardError.
EXIT_USAGE = 2


class TuneboardError(Exception):
    """Base of all errors that a user can act on."""


class UsageError(TuneboardError):
    """The command line or a file that it names is wrong."""


class ConfigError(UsageError):
    """A YAML file has unknown keys or bad values.

    Args:
        source: File (or other origin) of the configuration.
        problems: One line per problem; all of them are reported at once.
    """

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(f"{source}: " + "; ".join(self.problems))


class UnknownName(UsageError):
    """Nothing of that name is known.

    Args:
        what: Kind of thing that was named, such as ``"task"``.
        name: The name as given.
        known: All names that would have been accepted.
        hint: What to do next, in one clause.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.what, self.name = what, name
        self.near = near_matches(name, known)
        text = f"unknown {what} '{name}'"
        if self.near:
            text += f"; did you mean {', '.join(self.near)}?"
        if hint:
            text += f"; {hint}"
        super().__init__(text)


class ModelError(TuneboardError):
    """A base model cannot be loaded."""


class AdapterError(ModelError):
    """An adapter does not fit its base model, or is in a format that is refused."""


class DataError(TuneboardError):
    """A data set, split or column is missing."""


class BaselineMismatch(DataError):
    """A baseline does not hold what is to be compared with it."""


class EngineError(TuneboardError):
    """An engine could not answer."""


class OutOfMemory(EngineError):
    """Even the smallest batch did not fit into memory."""


class SandboxError(TuneboardError):
    """Generated code cannot be isolated on this machine."""


class StoreError(TuneboardError):
    """The database or a journal cannot be read or written."""


class StoreBusy(StoreError):
    """Another process holds the database longer than the wait allowed."""


class StoreTooNew(StoreError):
    """The database was written by a newer tuneboard."""


class NameTaken(StoreError):
    """A candidate's name is bound to other weights in this database."""


class MissingExtra(TuneboardError):
    """An optional package is not installed.

    Args:
        package: The package that failed to import.
        extra: The extra of tuneboard that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed; run: pip install 'tuneboard[{extra}]'")


def near_matches(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` known names that look like ``name``, best first."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)
