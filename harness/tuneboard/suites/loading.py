"""From the tasks of a suite to lm-eval's task objects, each with its role, its documents and its identity."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneboard.config import SuiteTask
from tuneboard.errors import DataError, MissingExtra, UnknownName, UsageError
from tuneboard.records import Role, TaskRef, fingerprint
from tuneboard.suites.catalog import sample_ids
from tuneboard.suites.index import IndexEntry, task_index

#: Seed of lm-eval's few-shot examples unless another is given.
DEFAULT_SEED = 1234


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Which tasks to load, and how."""

    tasks: tuple[SuiteTask, ...]
    """Names of tasks, groups or tags (or patterns such as ``arc_*``); settings of a group hold for each member."""
    include_paths: tuple[Path, ...] = ()
    """Folders of the user's own task YAML; later ones win over earlier ones, over tuneboard's and over lm-eval's."""
    mirror: Path | None = None
    """Folder that data sets are read from; None reads from the hub."""
    num_fewshot: int | None = None
    """Wins over the suite's number; a task whose own config says 0 keeps 0, as in lm-eval."""
    seed: int = DEFAULT_SEED
    """Draws few-shot examples."""
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Laid over the generation settings of every task that generates, and over the suite's."""


@dataclass(frozen=True, slots=True)
class LoadedTasks:
    """Task objects of lm-eval, ready to build requests, and what is known of each; all keyed by name."""

    tasks: dict[str, Any]
    """``lm_eval.api.task.Task`` of every leaf."""
    groups: dict[str, Any]
    """``lm_eval.api.group.Group`` of every group, with its members."""
    refs: dict[str, TaskRef]
    roles: dict[str, Role]
    """Of leaves and of groups."""
    limits: dict[str, int | None]
    doc_ids: dict[str, tuple[int, ...]]
    """Documents to ask, ascending; all of them where there is no limit."""
    headlines: dict[str, str | None]
    """Of leaves and of groups; None is the default of the task."""
    generation: dict[str, dict[str, Any]]
    """Generation settings that were given beside the task's own, and are already in force."""


def load_tasks(request: TaskRequest) -> LoadedTasks:
    """Build every task that a request names, with its data.

    Documents and prompts are those of ``lm_eval.simple_evaluate`` with ``fewshot_random_seed=request.seed`` and its
    other seeds left alone.

    Raises:
        UnknownName: A task, group or tag does not exist.
        UsageError: Two entries ask for the same task in different ways.
        ConfigError: A task's YAML has unknown keys, or names a function that is not there.
        DataError: A data set or split is missing, or the task's code does not run here.
        MissingExtra: lm-eval is not installed.
    """
    if find_spec("lm_eval") is None:
        raise MissingExtra("lm-eval", "transformers")
    from tuneboard.suites.building import TaskBuilder, registry
    from tuneboard.suites.mirror import Mirror

    index = task_index(request.include_paths)
    entries = [entry for asked in request.tasks for entry in _resolved(asked, index)]
    builder = TaskBuilder(Mirror(request.mirror.expanduser()) if request.mirror else None)
    known = registry(index)
    loaded = LoadedTasks({}, {}, {}, {}, {}, {}, {}, {})
    askers: dict[str, SuiteTask] = {}
    with _lm_eval_seeds():
        for entry in entries:
            builder.num_fewshot = entry.num_fewshot if request.num_fewshot is None else request.num_fewshot
            built = builder.build(known[entry.task], overrides=None, registry=known)
            for item in built if isinstance(built, list) else [built]:
                _collect(item, entry, loaded, askers)
            _settle(loaded, entry, builder, request)
    return loaded


def with_prompt_settings(ref: TaskRef, settings: Mapping[str, Any]) -> TaskRef:
    """Return the identity of a task whose prompts are wrapped: chat template, system instruction, multi-turn.

    Args:
        ref: The bare task.
        settings: What was asked for; empty or None values change nothing.
    """
    given = {key: value for key, value in settings.items() if value}
    return replace(ref, fingerprint=fingerprint(ref.fingerprint, given)) if given else ref


def _resolved(asked: SuiteTask, index: Mapping[str, IndexEntry]) -> list[SuiteTask]:
    if asked.task in index:
        return [asked]
    names = [name for name in sorted(index) if fnmatchcase(name, asked.task)] if set("*?[") & set(asked.task) else []
    if not names:
        raise UnknownName("task", asked.task, index, "all names: tuneboard show tasks")
    return [replace(asked, task=name) for name in names]


def _collect(item: Any, entry: SuiteTask, loaded: LoadedTasks, askers: dict[str, SuiteTask]) -> None:
    """File a built task, or a group with all that is in it, under its names."""
    from lm_eval.api.group import Group

    if isinstance(item, Group):
        leaves, groups = item.get_all_tasks(), [item, *item.get_all_groups()]
    else:
        leaves, groups = [item], []
    for group in groups:
        loaded.groups[group.name] = group
    for leaf in leaves:
        before = askers.setdefault(leaf.task_name, entry)
        if replace(before, task="", role="none", headline=None) != replace(entry, task="", role="none", headline=None):
            raise UsageError(
                f"task '{leaf.task_name}' is asked for by '{before.task}' and by '{entry.task}' with different "
                "settings; give both the same few-shot number, limit and seed, or name it once"
            )
        loaded.tasks.setdefault(leaf.task_name, leaf)
    for name in [entry.task, *(one.name for one in groups), *(leaf.task_name for leaf in leaves)]:
        loaded.roles.setdefault(name, entry.role)
        loaded.headlines.setdefault(name, entry.headline)


def _settle(loaded: LoadedTasks, entry: SuiteTask, builder: Any, request: TaskRequest) -> None:
    """Give the tasks that ``entry`` brought their few-shot number, seed, settings, documents and identity."""
    from tuneboard.suites.building import settled_fewshot
    from tuneboard.suites.identity import task_ref

    for name, task in loaded.tasks.items():
        if name in loaded.refs:
            continue
        shots = settled_fewshot(task.config.num_fewshot, builder.num_fewshot)
        task.set_config("num_fewshot", shots)
        task.set_fewshot_seed(request.seed)
        pool = getattr(getattr(task, "sampler", None), "df", None)
        if pool is not None and len(pool) < shots:
            raise DataError(f"task '{name}' is to show {shots} examples but has only {len(pool)}; lower --num-fewshot")
        loaded.refs[name] = task_ref(task, builder.mirror, request.seed)
        given = {**entry.generation, **request.gen_kwargs} if task.OUTPUT_TYPE == "generate_until" else {}
        if given:
            task.set_config("generation_kwargs", given, update=True)
        loaded.generation[name] = given
        loaded.limits[name] = entry.limit
        loaded.doc_ids[name] = tuple(sample_ids(name, loaded.refs[name].n_docs, entry.limit, entry.sample_seed))


@contextmanager
def _lm_eval_seeds() -> Iterator[None]:
    """Seed the global generators as ``simple_evaluate`` does, since some tasks shuffle as they load; undo it after."""
    import numpy as np

    state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(DEFAULT_SEED)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
