"""A baseline in the place of the base of a gate that evaluates: its scores are known, and only have to fit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

from tuneboard.errors import BaselineMismatch
from tuneboard.evaluate.recording import RecordedTask
from tuneboard.records import CellKey
from tuneboard.store.baselines import Baseline
from tuneboard.store.blessed import baseline_refs, hashed_config, sample_scores, unpacked
from tuneboard.store.matching import task_difference
from tuneboard.store.rows import as_json


class Reference:
    """The scores of a baseline, by task and document.

    Args:
        baseline: Its results on tasks.
    """

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self._entries = {entry["ref"]["name"]: entry for entry in baseline.entries if entry["kind"] == "task"}
        self._scores: dict[tuple[str, str, str], dict[int, Any]] = {}
        self._fitting: set[str] = set()

    def check(self, recorded: RecordedTask, key: CellKey) -> None:
        """Refuse a task that the baseline was not asked in the same way.

        Args:
            recorded: The task as the candidate is asked, whole.
            key: Of the candidate's result.

        Raises:
            BaselineMismatch: With what differs.
        """
        task = recorded.ref.name
        if task not in self._fitting:
            if problem := self._problem(recorded, key):
                name, own = self.baseline.name, self.baseline.candidate
                again = f"evaluate '{own}' on all of it, then bless it: tuneboard baseline bless {own} --as {name}"
                raise BaselineMismatch(f"baseline '{name}' does not fit: {problem}; {again}")
            self._fitting.add(task)

    def score(self, task: str, doc_id: int, metric: str, filter: str) -> float | None:
        """Return the score of a document; None where it failed.

        Args:
            task: One that was checked.
            doc_id: The document.
            metric: Name of the metric.
            filter: lm-eval's filter.
        """
        name = (task, metric, filter)
        if name not in self._scores:
            entry = self._entries[task]
            found = [one for one in entry["metrics"] if (one["metric"], one["filter"]) == (metric, filter)]
            self._scores[name] = dict(zip(*sample_scores(entry, found[0]), strict=True)) if found else {}
        value = self._scores[name].get(doc_id)
        return float(value) if isinstance(value, int | float) else None

    @cached_property
    def _refs(self) -> Mapping[str, Mapping[str, Any]]:
        return baseline_refs(self.baseline)

    def _problem(self, recorded: RecordedTask, key: CellKey) -> str | None:
        ref = recorded.ref
        entry = self._entries.get(ref.name)
        if entry is None:
            return f"it has no result on {ref.name}"
        if entry["key"]["task"] != ref.fingerprint:
            mine = {
                "num_fewshot": ref.num_fewshot,
                "version": ref.version,
                "data_hash": ref.data_hash,
                "config": json.dumps(hashed_config(json.loads(as_json(ref.config)))),
            }
            theirs = self._refs[entry["key"]["task"]]
            difference = task_difference(theirs, mine, (self.baseline.label, "the candidate"))
            return f"{ref.name} is asked in another way: {difference}"
        if entry["key"]["generation"] != key.generation:
            return f"{ref.name} is asked with other generation settings"
        asked: Collection[int] = recorded.hashes.keys()
        missing = set(asked) - set(unpacked(entry["docs"]))
        if missing:
            return f"it lacks {len(missing):,} of the {len(asked):,} documents of {ref.name} that are to be asked"
        return None
