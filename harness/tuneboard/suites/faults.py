"""Says in one line what is wrong with a task: its YAML, the Python beside it, or its data."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import datasets
import yaml
from lm_eval.api.registry import get_metric, metric_registry
from lm_eval.config.task import FewshotConfig, TaskConfig
from lm_eval.tasks._index import Entry

from tuneboard.errors import ConfigError, DataError, TuneboardError, near_matches


def refuse_urls(config: Any) -> None:
    """Raise ``DataError`` where a task would fetch its files from the web."""
    files = str((getattr(config, "dataset_kwargs", None) or {}).get("data_files", ""))
    if "://" in files:
        raise DataError(
            f"task '{config.task}' reads {files}, and with --mirror nothing is fetched; "
            "download the file and name it in data_files, or leave --mirror out"
        )


def refuse_unknown_keys(config: dict[str, Any], entry: Entry) -> None:
    """Raise ``ConfigError`` with every key that lm-eval's task YAML does not have."""
    if "class" in config:  # a task written in Python may take keys of its own
        return
    problems = _unknown_keys(config, TaskConfig)
    if isinstance(config.get("fewshot_config"), dict):
        problems += _unknown_keys(config["fewshot_config"], FewshotConfig, "fewshot_config.")
    if problems:
        raise ConfigError(_source(entry), problems)


def refuse_unknown_metrics(config: dict[str, Any], entry: Entry) -> None:
    """Raise ``ConfigError`` where a task asks for metrics that nothing here measures: lm-eval would leave them out."""
    if "class" in config or config.get("process_results") is not None:
        return
    listed = [one.get("metric") for one in config.get("metric_list") or () if isinstance(one, dict)]
    names = [name for name in listed if isinstance(name, str)]
    missing = [name for name in names if name not in metric_registry and get_metric(name) is None]
    # Choices are scored without these functions, as long as one of the metrics is theirs.
    if missing and (len(missing) == len(listed) or config.get("output_type") == "generate_until"):
        raise ConfigError(_source(entry), [unknown("metric", name, metric_registry.keys()) for name in missing])


def unknown(what: str, name: str, known: Iterable[str], prefix: str = "") -> str:
    """Say that ``name`` is not known, with near matches."""
    near = near_matches(name, known)
    return f"unknown {what} '{prefix}{name}'" + (f", did you mean {' or '.join(near)}?" if near else "")


def _unknown_keys(config: dict[str, Any], record: Any, prefix: str = "") -> list[str]:
    known = [field.name for field in dataclasses.fields(record)]
    return [unknown("key", key, known, prefix) for key in config if key not in known]


@contextlib.contextmanager
def readable(entry: Entry) -> Iterator[None]:
    """Explain what keeps a task's YAML, or the Python beside it, from being read."""
    source = _source(entry)
    try:
        yield
    except TuneboardError:
        raise
    except yaml.YAMLError as error:
        raise ConfigError(source, [" ".join(str(error).split())]) from error
    except ImportError as error:
        if isinstance(error.__cause__, ImportError) and "Cannot import module" in str(error):
            raise ConfigError(source, [f"broken !function: {_line(error)}"]) from error
        raise _missing_module(entry.name, error) from error
    except FileNotFoundError as error:
        raise ConfigError(source, [f"it names a file that is not there: {error.filename or _line(error)}"]) from error
    except Exception as error:
        raise ConfigError(source, [f"broken !function or YAML: {type(error).__name__}: {_line(error)}"]) from error


@contextlib.contextmanager
def explained(task: str, files: str = "") -> Iterator[None]:
    """Explain what keeps a task from being built out of its config and data, which may be local files."""
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    except TuneboardError:
        raise
    except ImportError as error:
        raise _missing_module(task, error) from error
    except (OSError, StopIteration, datasets.exceptions.DatasetsError) as error:
        # Where a file cannot be parsed, the error itself says only that something was being generated; where it is
        # empty, nothing.
        reason = "no rows" if isinstance(error, StopIteration) else _line(error.__cause__ or error)
        advice = f"check that {files} is there, whole and not empty" if files else "check the network, or give --mirror"
        raise DataError(f"task '{task}': its data set cannot be loaded ({reason}); {advice}") from error
    except Exception as error:
        raise DataError(f"task '{task}' cannot be built: {type(error).__name__}: {_line(error)}") from error
    finally:
        if not shown:
            datasets.enable_progress_bars()


def _source(entry: Entry) -> str:
    return str(entry.yaml_path or f"task '{entry.name}'")


def _missing_module(task: str, error: ImportError) -> DataError:
    module = error.name or ""
    package = module.partition(".")[0]
    if package == "transformers":
        reason = f"it needs {module}, which transformers {version('transformers')} no longer has; choose another task"
    elif package:
        reason = f"it needs the package that brings {module}; try: pip install {package}"
    else:
        reason = _line(error)
    return DataError(f"task '{task}' cannot be loaded: {reason}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
