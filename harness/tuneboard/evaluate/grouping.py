"""Groups such as ``mmlu`` and ``mmlu_stem``: cells that are aggregated from others, as lm-eval does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuneboard.evaluate.cells import CellWriter
from tuneboard.evaluate.recording import RecordedTask
from tuneboard.evaluate.replaying import replay_group
from tuneboard.records import Candidate, TaskRef, TaskResult, TokenCount, fingerprint
from tuneboard.suites import LoadedTasks


def group_results(
    candidate: Candidate, loaded: LoadedTasks, recorded: Mapping[str, RecordedTask], writer: CellWriter
) -> None:
    """Store the result of every group for one candidate whose tasks are all through.

    Args:
        candidate: Whose.
        loaded: The groups.
        recorded: The tasks as asked.
        writer: Has the tasks' results and takes the groups'.
    """
    made = []
    for name, group in loaded.groups.items():
        members = [task.task_name for task in group.get_all_tasks()]
        results = {member: writer.results[candidate.name, member] for member in members}
        if (result := _group_result(name, group, results, recorded)) is not None:
            made.append((result, all(one.status == "reused" for one in results.values())))
    found = writer.store.find_all([result.key for result, reused in made if reused])
    writer.reuse_results([replace(old, candidate=candidate) for old in found.values()])
    writer.store_results([result for result, _ in made if result.key not in found])


def _group_result(
    name: str, group: Any, results: Mapping[str, TaskResult], recorded: Mapping[str, RecordedTask]
) -> TaskResult | None:
    first = next(iter(results.values()))
    bad = [one for one in results.values() if one.status in ("failed", "invalid")]
    metrics = replay_group(
        group,
        {member: result.metrics for member, result in results.items() if result.metrics},
        {member: result.n for member, result in results.items()},
    )
    if not bad and not metrics:
        return None
    refs = [recorded[member].ref for member in results]
    ref = TaskRef(
        name=name,
        fingerprint=fingerprint("group", name, sorted(one.fingerprint for one in refs)),
        data_hash=fingerprint(sorted(one.data_hash for one in refs)),
        num_fewshot=refs[0].num_fewshot,
        version=str(getattr(group, "version", "") or ""),
        output_type="group",
        config={"group": name, "task": list(results)},
        n_docs=sum(one.n_docs for one in refs),
    )
    documents = fingerprint(sorted(one.key.documents for one in results.values()))
    whole = all(one.key.documents == "all" for one in results.values())
    generation = fingerprint(sorted({one.key.generation for one in results.values()}))
    key = replace(first.key, task=ref.fingerprint, generation=generation, documents="all" if whole else documents)
    return TaskResult(
        candidate=first.candidate,
        task=ref,
        key=key,
        kind="group",
        status=bad[0].status if bad else "done",
        metrics=() if bad else tuple(metrics),
        n=sum(one.n for one in results.values()),
        failed=sum(one.failed for one in results.values()),
        reason=f"{bad[0].task.name}: {bad[0].reason}" if bad else None,
        seconds=sum(one.seconds for one in results.values()),
        tokens=sum((one.tokens for one in results.values()), TokenCount()),
        members=tuple(results),
    )
