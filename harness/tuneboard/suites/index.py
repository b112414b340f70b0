"""Which tasks, groups and tags exist, and in which YAML file, without importing lm-eval.

lm-eval ships some 14,000 YAML files; reading them takes seconds, so what they define is kept in the user's cache
folder. The kept index is used only while the name, size and time of every YAML file are unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from tuneboard import bundled
from tuneboard.errors import ConfigError, UsageError
from tuneboard.suites.facts import KEYS, NOTHING, TaskFacts, facts_of

Kind = Literal["task", "class", "group", "tag"]

_FORMAT = 2
_IGNORED_FOLDERS = frozenset({"__pycache__", ".ipynb_checkpoints", ".git"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """Where a name is defined."""

    name: str
    kind: Kind
    """``class`` is a task that is written in Python."""
    path: Path | None
    """None for a tag."""
    members: tuple[str, ...] = ()
    """Tasks that carry the tag."""
    facts: TaskFacts = NOTHING


def list_task_names(include_paths: Iterable[Path] = ()) -> dict[str, Kind]:
    """Return every task, group and tag that can be asked for, with its kind, by name."""
    index = task_index(include_paths)
    return {name: index[name].kind for name in sorted(index)}


def task_index(include_paths: Iterable[Path] = ()) -> dict[str, IndexEntry]:
    """Index lm-eval's tasks, tuneboard's own and those of ``include_paths``; later ones win over earlier ones.

    A tag joins the tasks of all folders.

    Raises:
        UsageError: An include path is no folder, or holds no YAML.
        ConfigError: A YAML file of an include path is broken.
    """
    layers = []
    builtin = _lm_eval_tasks()
    if builtin is not None:
        layers.append(_kept_index(builtin))
    layers.append(_scan(bundled.tasks_dir(), strict=False))
    return _merged([*layers, *map(_scan_user_folder, include_paths)])


def folder_index(include_paths: Iterable[Path]) -> dict[str, IndexEntry]:
    """Index the user's own folders alone; raises as ``task_index``."""
    return _merged(map(_scan_user_folder, include_paths))


def _merged(layers: Iterable[Mapping[str, IndexEntry]]) -> dict[str, IndexEntry]:
    merged: dict[str, IndexEntry] = {}
    for layer in layers:
        for name, entry in layer.items():
            below = merged.get(name)
            if entry.kind == "tag" and below is not None and below.kind == "tag":
                entry = IndexEntry(name, "tag", None, tuple(sorted({*below.members, *entry.members})))
            merged[name] = entry
    return merged


def _lm_eval_tasks() -> Path | None:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "tasks"


def file_entry(path: Path) -> IndexEntry | None:
    """Return the task, or group, that one YAML file defines; None where it names none.

    Raises:
        ConfigError: The file is broken.
    """
    import yaml

    try:
        return _entry(_naming_keys(path.expanduser().resolve(), {}), path.expanduser().resolve())
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise ConfigError(str(path), [" ".join(str(error).split())]) from error


def _scan_user_folder(folder: Path) -> dict[str, IndexEntry]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UsageError(f"--include-path {root} is no folder; give a folder with task YAML files")
    if not any(True for _ in _yaml_files(root)):
        raise UsageError(f"--include-path {root} holds no .yaml file; give a folder with task YAML in lm-eval's format")
    return _scan(root.resolve(), strict=True)


def _yaml_files(root: Path) -> Iterator[Path]:
    """Yield task files in lm-eval's order: of two definitions in one folder, the first counts."""
    found = (path for path in root.rglob("*.yaml") if not _IGNORED_FOLDERS & set(path.relative_to(root).parts))
    yield from sorted(found, key=lambda path: path.as_posix())


def _scan(root: Path, *, strict: bool) -> dict[str, IndexEntry]:
    """Read every YAML below ``root``; a broken one is an error if ``strict``, else passed over as lm-eval does."""
    import yaml

    entries: dict[str, IndexEntry] = {}
    tags: dict[str, list[str]] = {}
    seen: dict[Path, dict[str, Any]] = {}
    for path in _yaml_files(root):
        try:
            keys = _naming_keys(path, seen)
        except (yaml.YAMLError, OSError, ValueError) as error:
            if strict:
                raise ConfigError(str(path), [" ".join(str(error).split())]) from error
            continue
        entry = _entry(keys, path)
        if entry is None:
            continue
        if entry.name in entries:
            _log.warning("task '%s' of %s is passed over: %s has it too", entry.name, path, entries[entry.name].path)
            continue
        entries[entry.name] = entry
        if entry.kind != "group":
            for tag in _names(keys.get("tag")):
                tags.setdefault(tag, []).append(entry.name)
    for tag, members in tags.items():
        entries.setdefault(tag, IndexEntry(tag, "tag", None, tuple(sorted(members))))
    return entries


def _entry(keys: Mapping[str, Any], path: Path) -> IndexEntry | None:
    kind: Kind = "class" if "class" in keys else "group" if "group" in keys else "task"
    name = keys.get("group" if kind == "group" else "task")
    return IndexEntry(name, kind, path, facts=facts_of(keys)) if isinstance(name, str) else None


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [one for one in value or [] if isinstance(one, str)]


def _naming_keys(path: Path, seen: dict[Path, dict[str, Any]], below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the keys that name a task or tell of it, with those of the files that it includes; its own win."""
    import yaml

    if path in seen:
        return seen[path]
    if path in below:
        raise ValueError(f"includes itself by way of {below[-1]}")
    config = yaml.load(path.read_bytes(), Loader=_loader())
    if not isinstance(config, dict):
        raise ValueError("expected 'key: value' lines at the top level")
    keys: dict[str, Any] = {}
    for include in _names(config.get("include")):
        keys |= _naming_keys((path.parent / include).resolve(), seen, (*below, path))
    keys |= {key: config[key] for key in ("task", "group", "class", "tag", *KEYS) if key in config}
    seen[path] = keys
    return keys


def _loader() -> type[Any]:
    """Return a YAML loader, libyaml's where there is one, that reads ``!function x`` as plain text."""
    import yaml

    global _Loader
    if _Loader is None:
        base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        _Loader = type("NameLoader", (base,), {})
        _Loader.add_multi_constructor("!", lambda loader, suffix, node: str(node.value))
    return _Loader


_Loader: type[Any] | None = None


def _kept_index(root: Path) -> dict[str, IndexEntry]:
    """Return the index of ``root`` from the cache if no file changed, else read the YAML files and keep it."""
    signature = _signature(root)
    file = _cache_dir() / f"tasks-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["format"] == _FORMAT and kept["signature"] == signature:
            return {
                name: IndexEntry(name, kind, root / path if path else None, tuple(members), _facts(facts))
                for name, kind, path, members, facts in kept["entries"]
            }
    entries = _scan(root, strict=False)
    rows = [
        (entry.name, entry.kind, str(entry.path.relative_to(root)) if entry.path else None, entry.members, _row(entry))
        for entry in entries.values()
    ]
    _write(file, json.dumps({"format": _FORMAT, "signature": signature, "entries": rows}))
    return entries


def _row(entry: IndexEntry) -> tuple[Any, ...]:
    return astuple(entry.facts) if entry.facts != NOTHING else ()


def _facts(row: list[Any]) -> TaskFacts:
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
    return TaskFacts(*values)


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tuneboard"


def _write(file: Path, text: str) -> None:
    """Replace ``file`` in one step, so that no reader sees half of it; without a writable cache, do nothing."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(temporary, file)
        except OSError:
            os.unlink(temporary)


def _signature(root: Path) -> str:
    """Hash the name, size and time of every YAML file below ``root`` (0.05 s for lm-eval's 14,000)."""
    digest = hashlib.sha256()
    for line in sorted(_file_lines(str(root), "")):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _file_lines(folder: str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                if item.name not in _IGNORED_FOLDERS:
                    yield from _file_lines(item.path, f"{prefix}{item.name}/")
            elif "yaml" in item.name:  # templates carry names such as _default_template_yaml
                stat = item.stat()
                yield f"{prefix}{item.name} {stat.st_size} {stat.st_mtime_ns}\n"
