"""Records to store: small, complete and made without any engine.

Test files and the processes that they start load this file with ``runpy``: it is in no package.
"""

from __future__ import annotations

from tuneboard.records import (
    AdapterRef,
    Candidate,
    CellKey,
    Document,
    MetricValue,
    ModelRef,
    Provenance,
    SampleScore,
    TaskRef,
    TaskResult,
    TokenCount,
    fingerprint,
)


def make_candidate(name: str = "base", weights: str = "w0", adapter: str | None = None) -> Candidate:
    """A candidate whose weights are told apart by two short texts."""
    base = ModelRef("models/tiny", None, "float32", None, weights)
    return Candidate(name, base, AdapterRef(f"adapters/{adapter}", adapter, "LORA") if adapter else None)


def make_task(name: str = "toy", num_fewshot: int = 0, n_docs: int = 10) -> TaskRef:
    """A multiple-choice task."""
    print_ = fingerprint("task", name, num_fewshot)
    return TaskRef(
        name, print_, "data-1", num_fewshot, "1.0", "multiple_choice", {"task": name, "metric": "acc"}, n_docs
    )


def make_samples(candidate: Candidate, n: int, prompt_chars: int = 40, task: str = "toy") -> tuple[SampleScore, ...]:
    """Samples of four choices each, with answers that depend on the candidate."""
    samples = []
    for i in range(n):
        document = Document(
            doc_id=i,
            doc_hash=fingerprint(task, i % 8),
            occurrence=i // 8,
            prompt_hash=fingerprint("prompt", i),
            prompt=(f"{task}: question {i} " * (prompt_chars // 10 + 1))[:prompt_chars],
            choices=(" A", " B", " C", " D"),
            target=str(i % 4),
        )
        offset = int(candidate.fingerprint[:4], 16) / 65536
        samples.append(
            SampleScore(
                document=document,
                request_hashes=tuple(fingerprint("request", task, i, choice) for choice in range(4)),
                responses=tuple((-offset - i / 7 - choice / 3, choice == i % 4) for choice in range(4)),
                metrics={"none": {"acc": float(i % 3 == 0), "acc_norm": float(i % 2 == 0)}},
            )
        )
    return tuple(samples)


def make_result(
    candidate: Candidate | None = None,
    task: TaskRef | None = None,
    n: int = 10,
    documents: str = "all",
    status: str = "done",
    **changes: object,
) -> TaskResult:
    """A finished cell with ``n`` samples."""
    candidate, task = candidate or make_candidate(), task or make_task()
    values: dict[str, object] = {
        "candidate": candidate,
        "task": task,
        "key": CellKey(candidate.fingerprint, task.fingerprint, "g0", "transformers", "float32", None, 0, documents),
        "kind": "task",
        "status": status,
        "metrics": (
            MetricValue("acc", "none", 0.4, 0.15, (0.17, 0.69), True),
            MetricValue("acc_norm", "none", 0.5, None, None, None),
        ),
        "samples": make_samples(candidate, n, task=task.name),
        "n": n,
        "seconds": 1.5,
        "tokens": TokenCount(100, 50, 90, 10, 1),
    }
    return TaskResult(**(values | changes))  # type: ignore[arg-type]


def make_provenance(command: str = "tuneboard evaluate --model models/tiny") -> Provenance:
    """How a run came to be."""
    return Provenance(
        command=command,
        engine={"name": "transformers", "version": "5.19", "device": "cpu", "dtype": "float32"},
        versions={"tuneboard": "0.1.0"},
        hardware={"cores": 2},
        seeds={"python": 0},
        suite="quick",
        settings={"limit": 10},
    )
