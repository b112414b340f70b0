"""Tasks of the user's own: a file of rows, and a YAML of some ten lines that names its columns.

    read_own_task(path)       the YAML, checked against the columns of its data; all mistakes at once
    own_config(path)          the same as a config of lm-eval's, with the rows in it
    file_entries(paths)       where ``load_tasks`` finds tasks that are named by their files

Four kinds: ``multiple_choice``, ``classification``, ``generation`` and ``perplexity``; ``tasks/examples`` has one each.
"""

from tuneboard.suites.own.files import file_entries, is_own, named_tasks, with_headlines
from tuneboard.suites.own.schema import OwnTask, read_own_task

__all__ = ["OwnTask", "file_entries", "is_own", "named_tasks", "read_own_task", "with_headlines"]
