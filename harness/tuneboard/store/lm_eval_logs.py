"""What lm-eval (0.4.3 and newer) leaves in the folder of ``--output_path``: its files, read and checked.

``results_DATE.json`` holds the scores and how they came to be, ``samples_TASK_DATE.jsonl`` one line per document and
filter, where ``--log_samples`` was given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneboard.errors import DataError, UsageError

_RESULTS = re.compile(r"^.+_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json$")
#: Without these a line cannot be paired or scored.
_KEYS = ("doc_id", "doc_hash", "target", "arguments", "resps")


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One run of lm-eval."""

    results: Path
    content: Mapping[str, Any]
    """Of the results file."""
    samples: Mapping[str, Path]
    """Task to its file, for those that have one."""

    def of(self, section: str, task: str) -> Any:
        """Return what a section of the results file, such as ``configs``, says of a task; None for nothing."""
        found = self.content.get(section)
        return found.get(task) if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class LoggedSample:
    """One document: what was asked and answered, and its scores by filter."""

    doc_id: int
    first: Mapping[str, Any]
    """A line of it; those of its other filters differ in scores and filtered answers only."""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    filtered: dict[str, list[Any]] = field(default_factory=dict)


def find_runs(folder: Path) -> list[LoggedRun]:
    """Find the runs that stand in a folder, oldest first.

    Args:
        folder: What ``--output_path`` named, or the model's folder in it.

    Raises:
        UsageError: There is none, or they are of several models.
        DataError: A results file is broken.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the one that lm_eval --output_path named")
    files = sorted(path for path in folder.rglob("*.json") if _RESULTS.match(path.name))
    if not files:
        raise UsageError(f"{folder} holds no results_*.json; give the folder that lm_eval --output_path named")
    places = sorted({path.parent for path in files})
    if len(places) > 1:
        names = ", ".join(str(place.relative_to(folder)) for place in places[:5])
        raise UsageError(f"{folder} holds the results of {len(places)} models; give the folder of one: {names}")
    return sorted((_run(path) for path in files), key=lambda run: _date(run.results))


def read_samples(path: Path, metrics: Mapping[str, list[str]]) -> list[LoggedSample]:
    """Read the samples of a task, in the order of documents.

    Args:
        path: The file.
        metrics: Filter to the metrics that the results file names; lines of newer versions name them too.

    Raises:
        DataError: A line is no JSON, lacks something, or stands twice; the message names file and line.
    """
    samples: dict[int, LoggedSample] = {}
    for number, line in _lines(path):
        where = f"{path} line {number}"
        if missing := [key for key in _KEYS if key not in line]:
            raise DataError(
                f"{where} has no {', '.join(missing)}; expected what lm-eval 0.4.3 or newer writes with --log_samples"
            )
        doc_id, filter_name = line["doc_id"], str(line.get("filter", "none"))
        if not isinstance(doc_id, int):
            raise DataError(f"{where}: doc_id is {doc_id!r}, expected a whole number; run lm-eval again")
        sample = samples.setdefault(doc_id, LoggedSample(doc_id, line))
        if filter_name in sample.metrics:
            raise DataError(f"{where}: document {doc_id} stands twice; the file was written twice, run lm-eval again")
        names = [str(name) for name in line.get("metrics") or metrics.get(filter_name) or ()]
        if lacking := [name for name in names if name not in line]:
            raise DataError(f"{where} has no score {', '.join(lacking)}; run lm-eval again")
        sample.metrics[filter_name] = {name: line[name] for name in names}
        filtered = line.get("filtered_resps")
        sample.filtered[filter_name] = filtered if isinstance(filtered, list) else []
    if not samples:
        raise DataError(f"{path} is empty; run lm-eval again with --log_samples")
    return [samples[doc_id] for doc_id in sorted(samples)]


def _run(path: Path) -> LoggedRun:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({_short(error)}); run lm-eval again, or remove the file") from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise DataError(f"{path} has no 'results'; expected a file that lm-eval wrote, remove this one")
    files = {task: path.with_name(f"samples_{task}_{_date(path)}.jsonl") for task in content["results"]}
    return LoggedRun(path, content, {task: file for task, file in files.items() if file.is_file()})


def _date(path: Path) -> str:
    match = _RESULTS.match(path.name)
    return match["date"] if match else ""


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        # Not splitlines(): answers hold separators that it splits at and JSON does not escape.
        texts = path.read_text(encoding="utf-8", errors="surrogatepass").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({_short(error)}); run lm-eval again") from error
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} line {number} is not JSON ({_short(error)}); run lm-eval again") from error
        if not isinstance(line, dict):
            raise DataError(f"{path} line {number} is no sample; expected a JSON object as lm-eval writes it")
        yield number, line


def _short(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:120]
