"""What exactly a loaded task asks: its resolved config and its data, as hashes that hold on every machine.

Functions count by their name and the text of the module that they stand in, never by address; paths count relative to
the task's own folder, so that the place where tuneboard or lm-eval is installed does not matter.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from tuneboard.metrics import find_metric
from tuneboard.records import TaskRef, fingerprint
from tuneboard.suites.mirror import Mirror, Splits, file_sha256

#: Config keys that say where a task comes from or how it is shown, not what it asks.
_NOT_ASKED = frozenset({"task", "task_alias", "tag", "num_fewshot"})
_NO_SOURCE = "built in"
#: lm-eval's metrics of texts that sacrebleu computes.
_BY_SACREBLEU = frozenset({"bleu", "chrf", "chrf++", "ter"})


def task_ref(task: Any, mirror: Mirror | None, seed: int) -> TaskRef:
    """Describe a task that has just been built.

    Args:
        task: lm-eval's task object, with its final few-shot number and its own generation settings.
        mirror: Where its data came from; None for the hub or local files.
        seed: Draws the few-shot examples.
    """
    config = plain_config(task)
    num_fewshot = int(task.config.num_fewshot or 0)
    data_hash = _data_hash(task, mirror)
    drawn = num_fewshot > 0 and config.get("fewshot_config", {}).get("sampler") != "first_n"
    parts = ("task", task.task_name, config, num_fewshot, seed if drawn else None, data_hash)
    return TaskRef(
        name=task.task_name,
        fingerprint=fingerprint(*parts),
        data_hash=data_hash,
        num_fewshot=num_fewshot,
        version=str(task.VERSION),
        output_type=str(task.OUTPUT_TYPE),
        config=_signed(config, task),
        n_docs=len(task.eval_docs),
    )


def _signed(config: dict[str, Any], task: Any) -> dict[str, Any]:
    """Add sacrebleu's signatures to the metrics that it computes; they change nothing about what is asked."""
    entries = config.get("metric_list") or []
    if not any(_is_sacrebleus(entry) for entry in entries):
        return config
    target = task.doc_to_target(task.eval_docs[0])
    references = [[str(one) for one in target] if isinstance(target, list) else [str(target)]]
    signed = []
    for entry in entries:
        metric = find_metric(entry["metric"]) if _is_sacrebleus(entry) else None
        found = metric.signature(references) if metric is not None and metric.signature is not None else None
        signed.append(entry if found is None else entry | {"signature": found})
    return config | {"metric_list": signed}


def _is_sacrebleus(entry: Any) -> bool:
    if not isinstance(entry, dict) or "signature" in entry:
        return False
    name = entry.get("metric")
    return isinstance(name, str) and name in _BY_SACREBLEU and entry.get("aggregation", name) == name


def plain_config(task: Any) -> dict[str, Any]:
    """Return a task's resolved config as JSON-able values, without what differs between machines."""
    metadata = dict(task.config.metadata or {})
    source = metadata.pop("config_source", "")
    folder = str(Path(source).parent) if source.endswith(".yaml") else ""
    values = {field.name: getattr(task.config, field.name) for field in dataclasses.fields(task.config)}
    values["metadata"] = metadata
    plain = {key: _plain(value, folder) for key, value in values.items() if value is not None and key not in _NOT_ASKED}
    if "class" in task.config.__dict__ or type(task).__module__ != "lm_eval.api.task":
        plain["class"] = _plain(type(task), folder)
    return plain


def _plain(value: Any, folder: str) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.replace(folder + "/", "") if folder else value
    if isinstance(value, Mapping):
        return {str(key): _plain(one, folder) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        ordered = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [_plain(one, folder) for one in ordered]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _plain(one, folder) for name, one in fields if one is not None}
    if isinstance(value, functools.partial):
        return {"partial": _plain(value.func, folder), "args": _plain([value.args, value.keywords], folder)}
    return _described(value)


def _described(value: Any) -> dict[str, str]:
    """Name a function or class, with the hash of the file that defines it."""
    named = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    try:
        file = inspect.getsourcefile(inspect.unwrap(named))
    except TypeError:
        file = None
    source = file_sha256(Path(file)) if file and Path(file).is_file() else _NO_SOURCE
    return {"function": named.__qualname__, "source": source}


def _data_hash(task: Any, mirror: Mirror | None) -> str:
    """Hash the splits that the task has read: files of the mirror, the hub's own fingerprints, or the rows."""
    splits = task.dataset
    if not isinstance(splits, Splits):
        return fingerprint("rows", _rows_hash(task.eval_docs))
    path, name = task.DATASET_PATH, task.DATASET_NAME
    if task.reads_mirror and mirror is not None:
        parts = {split: file_sha256(mirror.file(path, name, split)) for split in splits.read}
    else:
        parts = {split: _rows_hash(rows) for split, rows in splits.read.items()}
    return fingerprint("data", path, name, parts)


def _rows_hash(rows: Any) -> str:
    """Hash every row, in order; local files have no other identity that holds on another machine."""
    digest = hashlib.sha256()
    batches = rows.with_format("arrow").iter(1000) if isinstance(rows, datasets.Dataset) else [rows]
    for batch in batches:
        for row in batch.to_pylist() if hasattr(batch, "to_pylist") else batch:
            digest.update(json.dumps(row, sort_keys=True, default=repr).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
