"""From the tasks of a suite to lm-eval's task objects, each with its role, its documents and its identity."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping, Sequence
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
from tuneboard.suites.own import file_entries

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
    task_files: tuple[Path, ...] = ()
    """YAML files of single tasks, in the format of ``tuneboard.suites.own`` or lm-eval's; they win over all folders."""


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
    notes: list[str] = field(default_factory=list)
    """What was asked for and is not as asked, or not as one would expect; a line each."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the collection of reference cycles.

    Loading makes hundreds of thousands of objects that stay, and would set it off to walk, again and again, through all
    that torch and transformers hold: a third of the time that HellaSwag takes to load.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def load_tasks(request: TaskRequest) -> LoadedTasks:
    """Build every task that a request names, with its data.

    Documents and prompts are those of ``lm_eval.simple_evaluate`` with ``fewshot_random_seed=request.seed`` and its
    other seeds left alone.

    Raises:
        UnknownName: A task, group or tag does not exist, or none of an entry's tasks has its headline metric.
        UsageError: Two entries ask for the same task in different ways.
        ConfigError: A task's YAML has unknown keys, or names a function that is not there.
        DataError: A data set or split is missing, or the task's code does not run here.
        MissingExtra: lm-eval is not installed.
    """
    if find_spec("lm_eval") is None:
        raise MissingExtra("lm-eval", "transformers")
    import pyarrow as pa

    from tuneboard.suites.building import TaskBuilder, registry
    from tuneboard.suites.mirror import Mirror

    shipped, own = task_index(request.include_paths), file_entries(request.task_files)
    index = shipped | own
    resolved = [_resolved(asked, index) for asked in request.tasks]
    builder = TaskBuilder(Mirror(request.mirror.expanduser()) if request.mirror else None)
    known = registry(index)
    loaded = LoadedTasks({}, {}, {}, {}, {}, {}, {}, {})
    askers: dict[str, SuiteTask] = {}
    with _lm_eval_seeds():
        for entries in resolved:
            leaves: list[str] = []
            for entry in entries:
                builder.num_fewshot = entry.num_fewshot if request.num_fewshot is None else request.num_fewshot
                built = builder.build(known[entry.task], overrides=None, registry=known)
                for item in built if isinstance(built, list) else [built]:
                    leaves += _collect(item, entry, loaded, askers)
                _settle(loaded, entry, builder, request)
            _check_headline(entries[0].headline, [loaded.tasks[name] for name in leaves])
    loaded.notes.extend(_notes(loaded, builder.fixed))
    loaded.notes.extend(
        f"task '{name}' of {entry.path} takes the place of another task of that name; rename it to keep both"
        for name, entry in own.items()
        if name in shipped and shipped[name].path != entry.path
    )
    # What Arrow needed while reading would stay beside the model: 50 MiB of the peak with HellaSwag.
    pa.default_memory_pool().release_unused()
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


def _collect(item: Any, entry: SuiteTask, loaded: LoadedTasks, askers: dict[str, SuiteTask]) -> list[str]:
    """File a built task, or a group with all that is in it, under its names; returns those of the tasks."""
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
    return [leaf.task_name for leaf in leaves]


def _check_headline(headline: str | None, tasks: Sequence[Any]) -> None:
    """Refuse a headline that none of the tasks has; it may name the filter too, as ``metric,filter``."""
    if headline is None:
        return
    metric, _, filter_name = headline.partition(",")
    metrics = list(dict.fromkeys(metric for task in tasks for metric in task.aggregation()))
    filters = list(dict.fromkeys(one.name for task in tasks for one in getattr(task, "_filters", ())))
    names = listed([task.task_name for task in tasks])
    if metric not in metrics and not any(_names_own_metrics(task) for task in tasks):
        raise UnknownName("headline metric", metric, metrics, f"the metrics of {names}: {', '.join(metrics)}")
    if filter_name and filter_name not in filters:
        raise UnknownName("headline filter", filter_name, filters, f"the filters of {names}: {', '.join(filters)}")


def _names_own_metrics(task: Any) -> bool:
    """Tell whether code of the task's own scores it, which may give metrics that its YAML does not name."""
    from lm_eval.api.task import ConfigurableTask

    own = type(task).process_results is not ConfigurableTask.process_results or callable(task.config.process_results)
    return own or any(callable(one["metric"]) for one in task.config.metric_list or ())


def _notes(loaded: LoadedTasks, fixed: Sequence[str]) -> list[str]:
    """Say where few-shot examples are not what one would expect."""
    shared = [name for name, task in loaded.tasks.items() if task.config.num_fewshot and _draws_from_evaluated(task)]
    out = []
    if fixed:
        out.append(f"asked without few-shot examples, since their own YAML fixes num_fewshot at 0: {listed(fixed)}")
    if shared:
        out.append(f"few-shot examples come from the split that is evaluated, not from another: {listed(shared)}")
    return out


def _draws_from_evaluated(task: Any) -> bool:
    """Tell whether a task's examples are documents that it asks, by lm-eval's rule for where they come from."""
    config = task.config
    own = getattr(task, "fewshot_cfg", None)
    split = getattr(own, "split", None)
    if split is None and getattr(own, "samples", None) is None:
        split = config.training_split or config.validation_split or config.test_split
    return split is not None and split == (config.test_split or config.validation_split)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names with commas, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
