"""Suites and task names become lm-eval tasks, read online or from a local mirror.

    find_suite("core")                  a Suite: which tasks, how many examples, target or guard
    load_tasks(TaskRequest(...))        LoadedTasks: lm-eval's own task objects, and a TaskRef for each
    build_requests(task, doc_ids)       the prompts of those documents, as lm-eval would write them

Nothing here imports lm_eval or torch before tasks are loaded, so that names and suites can be listed at once.
"""

from tuneboard.suites.catalog import SuiteInfo, find_suite, list_suites, sample_ids
from tuneboard.suites.index import list_task_names
from tuneboard.suites.loading import LoadedTasks, TaskRequest, load_tasks, with_prompt_settings
from tuneboard.suites.own import named_tasks, with_headlines
from tuneboard.suites.prompts import build_requests, compiled_templates

__all__ = [
    "LoadedTasks",
    "SuiteInfo",
    "TaskRequest",
    "build_requests",
    "compiled_templates",
    "find_suite",
    "list_suites",
    "list_task_names",
    "load_tasks",
    "named_tasks",
    "sample_ids",
    "with_headlines",
    "with_prompt_settings",
]
