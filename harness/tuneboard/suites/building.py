"""Builds lm-eval's task objects; their data may come from a mirror, and what is wrong is said in one line.

``ConfigurableTask`` is not patched: each task is an instance of a subclass of its own class, made on the spot, whose
``download`` looks into the mirror and which keeps its processed documents.
"""

from __future__ import annotations

import inspect
import os
from glob import has_magic
from pathlib import Path
from typing import Any

from datasets.exceptions import DatasetsError
from jinja2 import UndefinedError
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind

from tuneboard.errors import ConfigError, DataError
from tuneboard.suites.faults import (
    explained,
    readable,
    refuse_unknown_keys,
    refuse_unknown_metrics,
    refuse_urls,
    unknown,
)
from tuneboard.suites.index import IndexEntry
from tuneboard.suites.mirror import Mirror, Splits
from tuneboard.suites.own import is_own
from tuneboard.suites.own.lm_eval_config import own_config
from tuneboard.suites.sources import FILE_BUILDERS, data_source, local_files, missing_column

_STRUCTURE = ("tag", "group", "task_list")
_KINDS = {"task": Kind.TASK, "class": Kind.PY_TASK, "group": Kind.GROUP, "tag": Kind.TAG}


def registry(index: dict[str, IndexEntry]) -> dict[str, Entry]:
    """Turn an index into lm-eval's; configs are read when a task is built."""
    return {
        name: Entry(name=name, kind=_KINDS[entry.kind], yaml_path=entry.path, tags=set(entry.members))
        for name, entry in index.items()
    }


class SuppliedTask:
    """What is laid over a task's class: where its data comes from, and documents that are processed once."""

    mirror: Mirror | None = None
    shows_examples = True
    """False where no few-shot example is asked for: then their split is not even opened."""
    reads_mirror = False
    fewshot_seed: int | None = None

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except UndefinedError as error:
            raise missing_column(self, error) or error from error

    def download(self, *args: Any, **kwargs: Any) -> None:
        """Open the data set in the mirror, or load it as lm-eval does."""
        this: Any = self
        config = getattr(self, "_config", None)
        path, name = this.DATASET_PATH, this.DATASET_NAME
        own = callable(getattr(config, "custom_dataset", None))
        if self.mirror is None or own or path is None or _is_local(path, self.mirror):
            if self.mirror is not None and path in FILE_BUILDERS:
                refuse_urls(config)
            try:
                super().download(*args, **kwargs)  # type: ignore[misc]
            except ValueError as error:
                if path not in FILE_BUILDERS:
                    raise
                raise DatasetsError(str(error)) from error  # such as for a file without rows
            if isinstance(this.dataset, dict) and not isinstance(this.dataset, Splits):
                this.dataset = _watched(this.dataset, this)
            return
        self.reads_mirror = True
        first = getattr(config, "test_split", None) or getattr(config, "validation_split", None)
        this.dataset = self.mirror.open(path, name, first, _name(this))

    def fewshot_docs(self) -> Any:
        """Return the pool of few-shot examples; empty, and unread, where none is asked for."""
        return super().fewshot_docs() if self.shows_examples else []  # type: ignore[misc]

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        """Start the generator that draws few-shot examples, and remember the seed for the next start."""
        self.fewshot_seed = seed
        super().set_fewshot_seed(seed)  # type: ignore[misc]

    @property
    def eval_docs(self) -> Any:
        """The documents to evaluate; lm-eval would process them anew at each look."""
        kept = self.__dict__.get("_kept_docs")
        if kept is None:
            kept = super().eval_docs  # type: ignore[misc]
            if len(kept) == 0:
                raise DataError(
                    f"task '{_name(self)}' has no documents: {data_source(self)} has no rows, or its process_docs "
                    "drops them all; put rows there, or name another test_split in the YAML"
                )
            self.__dict__["_kept_docs"] = kept
        return kept


class TaskBuilder(TaskFactory):
    """lm-eval's factory with data from a mirror and explained errors.

    Args:
        mirror: Where data sets stand; None for the hub.
    """

    def __init__(self, mirror: Mirror | None) -> None:
        super().__init__()
        self.mirror = mirror
        self.num_fewshot: int | None = None
        """Asked for by the suite entry that is being built; None keeps each task's own number."""
        self.fixed: list[str] = []
        """Tasks that keep 0 although another number was asked for."""

    def _build_task(self, entry: Entry, overrides: dict[str, Any] | None) -> Any:
        config = self._load_full_config(entry, overrides)
        for key in _STRUCTURE:
            config.pop(key, None)
        refuse_unknown_keys(config, entry)
        refuse_unknown_metrics(config, entry)
        _resolve_files(config, entry)
        shots = settled_fewshot(config.get("num_fewshot"), self.num_fewshot)
        if self.num_fewshot and not shots:
            self.fixed.append(config["task"])
        base = config.get("class", ConfigurableTask)
        supplied = {"mirror": self.mirror, "shows_examples": shots > 0, "__module__": base.__module__}
        cls: Any = type(base.__name__, (SuppliedTask, base), supplied)
        takes_config = "config" in inspect.signature(base.__init__).parameters
        with explained(config["task"], local_files(config)):
            task = cls(config=config) if takes_config else cls()
        if hasattr(task.config, "task"):
            task.config.task = config["task"]
        return task

    def _build_group_members(self, members: list[Any], name: str, overrides: Any, known: dict[str, Entry]) -> Any:
        """Name the tasks that a group defines inline, so that they too are built here."""
        named = []
        for member in members:
            base = member.get("task") if isinstance(member, dict) and "group" not in member else member
            if isinstance(base, str) and base not in known:
                if not isinstance(member, dict):
                    raise ConfigError(f"group '{name}'", [unknown("member", base, known)])
                full = f"{name}::{base}"
                known[full] = Entry(name=full, kind=Kind.TASK, yaml_path=None, cfg={**member, "task": full})
                member = {**member, "task": full}
            named.append(member)
        return super()._build_group_members(named, name, overrides, known)

    def _load_full_config(self, entry: Entry, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        with readable(entry):
            config: dict[str, Any] = super()._load_full_config(entry, overrides)
            if entry.yaml_path is None or not is_own(config):
                return config
            own = own_config(Path(entry.yaml_path)) | (overrides or {})
            return own | {"metadata": own["metadata"] | {"config_source": config["metadata"]["config_source"]}}


def settled_fewshot(own: int | None, asked: int | None) -> int:
    """Return the few-shot number that counts by lm-eval's rule: a task that says 0 itself keeps 0."""
    if own == 0:
        return 0
    return int(asked if asked is not None else own or 0)


def _is_local(path: str, mirror: Mirror) -> bool:
    return path in FILE_BUILDERS or (not (mirror.root / path).is_dir() and Path(path).expanduser().exists())


def _name(task: Any) -> str:
    config = getattr(task, "_config", None)
    return getattr(config, "task", None) or type(task).__name__.lower()


def _watched(loaded: dict[str, Any], task: Any) -> Splits:
    def open_split(split: str) -> Any:
        if split not in loaded:
            known = ", ".join(loaded)
            raise DataError(f"task '{_name(task)}' reads split '{split}', but its data set has only: {known}")
        return loaded[split]

    return Splits(loaded, open_split)


def _resolve_files(config: dict[str, Any], entry: Entry) -> None:
    """Read relative ``data_files`` and ``data_dir`` from the task's folder, if they stand there, else from here."""
    given = config.get("dataset_kwargs")
    if entry.yaml_path is None or config.get("dataset_path") not in FILE_BUILDERS or not isinstance(given, dict):
        return
    folder = Path(entry.yaml_path).parent

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolve(one) for key, one in value.items()}
        if isinstance(value, list):
            return [resolve(one) for one in value]
        if isinstance(value, str) and "://" not in value and not os.path.isabs(value):
            found = any(folder.glob(value)) if has_magic(value) else (folder / value).exists()
            return str(folder / value) if found else value
        return value

    config["dataset_kwargs"] = {
        key: resolve(value) if key in ("data_files", "data_dir") else value for key, value in given.items()
    }
