"""A small database as evaluations, trainings and comparisons leave it; loaded with ``runpy``, as it is in no package.

Two bases with three candidates each, on a group with subjects, a target, a guard and a generation task; names and
answers that would break a page that trusted them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneboard import stats
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
from tuneboard.store.training import TrainingFigures, TrainingStart, TrainingStore
from tuneboard.store.writes import Store

N_DOCS = 80
SUBJECTS = ("abstract_algebra", "anatomy", "astronomy", "virology")
GROUPS = {"mmlu": SUBJECTS, "mmlu_stem": SUBJECTS[:3]}
ODD_NAME = "odd *name* <b>[x](y)"

TINY = ModelRef("models/tiny", None, "float32", None, "w-tiny")
LARGE = ModelRef("example/large", "0123abcd", "bfloat16", "4bit", "w-large")

#: Candidate to what it is and, by task, how many of the base's answers it fixes and breaks.
CHANGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "base": {},
    "mine": {"gsm8k": (30, 2), "hellaswag": (3, 3), "mmlu": (4, 3)},
    "forgetful": {"gsm8k": (34, 1), "hellaswag": (1, 25), "mmlu": (1, 9)},
    "vague": {"gsm8k": (6, 5), "hellaswag": (4, 6), "mmlu": (2, 3)},
    "large": {},
    "large-full": {"gsm8k": (12, 3), "hellaswag": (9, 2), "mmlu": (5, 1)},
    "large-ia3": {"gsm8k": (2, 2), "hellaswag": (1, 1), "mmlu": (1, 1)},
    ODD_NAME: {"gsm8k": (5, 9), "hellaswag": (2, 3), "mmlu": (0, 2)},
}

HOSTILE: Sequence[str] = (
    "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>",
    "![image](https://example.invalid/x.png) [click](javascript:alert(1)) :red[colour] $x^2$ `code`",
    "\x1b[31mred\x1b[0m and a bell \x07 and a null \x00",
    "lone surrogate \ud800 and right-to-left \u202eoverride",
    "long answer " * 6_000,
)


def candidate(name: str) -> Candidate:
    """One of ``CHANGES``."""
    model = LARGE if name.startswith("large") or name == ODD_NAME else TINY
    if name in ("base", "large"):
        return Candidate(name, model)
    if name == "large-full":
        return Candidate(name, ModelRef("adapters/trained/large-full", None, "bfloat16", None, "w-large-full"))
    kind = "IA3" if name.endswith("ia3") else "LORA"
    return Candidate(name, model, AdapterRef(f"adapters/trained/{name}", f"a-{name}", kind))


def task(name: str, **config: Any) -> TaskRef:
    """A task; all but gsm8k are multiple choice."""
    generated = name == "gsm8k"
    kind = "generate_until" if generated else "multiple_choice"
    content = {"task": name, "dataset_path": f"data/{name}", "output_type": kind, **config}
    return TaskRef(
        name, fingerprint("task", name), f"data of {name}", 5 if generated else 0, "1.0", kind, content, N_DOCS
    )


def marks(name: str, asked: str) -> list[float]:
    """Which documents a candidate has right: those of its base but for what it fixes and breaks."""
    draw = random.Random(f"{_owner(name)} {asked}")
    share = 0.55 if _owner(name) == "large" else 0.42
    right = [float(draw.random() < share) for _ in range(N_DOCS)]
    fixed, broke = CHANGES[name].get("mmlu" if asked.startswith("mmlu") else asked, (0, 0))
    order = list(range(N_DOCS))
    random.Random(f"{name} {asked}").shuffle(order)
    wrong_before = [place for place in order if not right[place]]
    right_before = [place for place in order if right[place]]
    for place in wrong_before[:fixed]:
        right[place] = 1.0
    for place in right_before[:broke]:
        right[place] = 0.0
    return right


def key(one: Candidate, asked: str, documents: str = "all", repeat: int = 0) -> CellKey:
    """What a result is of."""
    model = one.model
    return CellKey(one.fingerprint, asked, "g0", "transformers", model.dtype, model.quantization, repeat, documents)


def sample(name: str, asked: str, doc_id: int, mark: float) -> SampleScore:
    """One document, its answer, and its score."""
    generated = asked == "gsm8k"
    document = Document(
        doc_id=doc_id,
        doc_hash=fingerprint(asked, doc_id),
        occurrence=0,
        prompt_hash=fingerprint("prompt", asked, doc_id),
        prompt=f"{asked}, question {doc_id}: " + (HOSTILE[doc_id] if doc_id < 2 else f"what is {doc_id} + {doc_id}?"),
        choices=() if generated else (" one", " two", " three", " four"),
        target=str(2 * doc_id) if generated else str(doc_id % 4),
    )
    if generated:
        text = HOSTILE[doc_id] if doc_id < len(HOSTILE) else f"It is {2 * doc_id if mark else doc_id}."
        score = {
            "strict-match": {"exact_match": mark},
            "flexible-extract": {"exact_match": max(mark, float(doc_id < 9))},
        }
        answer = [text[-20:]]
        filtered = {"strict-match": answer, "flexible-extract": answer}
        return SampleScore(document, (fingerprint("ask", asked, doc_id),), (text,), metrics=score, filtered=filtered)
    shift = int(fingerprint(name)[:4], 16) / 65536
    chosen = doc_id % 4 if mark else (doc_id + 1) % 4
    responses = tuple((-1.0 - shift - (choice != chosen) * 1.5, choice == chosen) for choice in range(4))
    hashes = tuple(fingerprint("ask", asked, doc_id, choice) for choice in range(4))
    return SampleScore(document, hashes, responses, metrics={"none": {"acc": mark, "acc_norm": mark}})


def result(name: str, asked: str, n: int = N_DOCS, repeat: int = 0, **config: Any) -> TaskResult:
    """A candidate's result on the first documents of a task."""
    one, ref = candidate(name), task(asked, **config)
    samples = tuple(sample(name, asked, doc_id, mark) for doc_id, mark in enumerate(marks(name, asked)[:n]))
    metrics = tuple(
        _metric(metric, filter_name, [each.metrics[filter_name][metric] for each in samples])
        for filter_name, values in samples[0].metrics.items()
        for metric in values
    )
    documents = "all" if n == N_DOCS else fingerprint(list(range(n)))
    return TaskResult(
        candidate=one,
        task=ref,
        key=key(one, ref.fingerprint, documents, repeat),
        kind="task",
        status="done",
        metrics=metrics,
        samples=samples,
        n=n,
        seconds=1.5 + n / 40,
        tokens=TokenCount(n * 60, n * 20, n * 55, n, 0),
    )


def group(name: str, group_name: str) -> TaskResult:
    """A candidate's result on a group of subjects of one size."""
    parts = [result(name, f"mmlu_{subject}") for subject in GROUPS[group_name]]
    correct = [each.metrics["none"]["acc"] for part in parts for each in part.samples]
    ref = TaskRef(
        group_name,
        fingerprint("group", group_name),
        "data of mmlu",
        0,
        "2",
        "group",
        {"group": group_name, "task": [part.task.name for part in parts]},
        len(correct),
    )
    return TaskResult(
        candidate=parts[0].candidate,
        task=ref,
        key=key(parts[0].candidate, ref.fingerprint),
        kind="group",
        status="done",
        metrics=(_metric("acc", "none", correct),),
        n=len(correct),
        members=tuple(part.task.name for part in parts),
    )


def provenance(command: str, suite: str | None = "core") -> Provenance:
    """How a run came to be."""
    entries = [
        {"task": "gsm8k", "role": "target"},
        {"task": "hellaswag", "role": "guard"},
        {"task": "mmlu", "role": "guard"},
    ]
    return Provenance(
        command=command,
        engine={"name": "transformers", "version": "5.19.0", "device": "cpu", "dtype": "float32"},
        versions={"tuneboard": "0.1.0", "torch": "2.13.0", "transformers": "5.19.0"},
        hardware={"cpu": "Example CPU", "cores": 2, "memory_gib": 7.8},
        seeds={"seed": 1234},
        suite=suite,
        settings={"tasks": entries, "limit": None},
    )


def fill(
    db: Path, names: Sequence[str] = tuple(CHANGES), change: Callable[[TaskResult], TaskResult] | None = None
) -> Store:
    """Store everything about the named candidates: a limited evaluation, the whole one, and trainings.

    Args:
        db: The database file.
        names: Of ``CHANGES``.
        change: Changes each result before it is stored.
    """
    store = Store(db)
    early = store.start_run(provenance("tuneboard evaluate --model models/tiny --suite core --limit 40"))
    first = [result(name, asked, 40) for name in names for asked in ("gsm8k", "hellaswag")]
    store.commit_all(early, [change(one) if change else one for one in first])
    store.finish_run(early, "done", 42.0)
    for owner, model in (("base", TINY.id), ("large", LARGE.id)):
        mine = [name for name in names if _owner(name) == owner]
        if not mine:
            continue
        run = store.start_run(provenance(f"tuneboard evaluate --model {model} --suite core"))
        asked = ("gsm8k", "hellaswag", *(f"mmlu_{subject}" for subject in SUBJECTS))
        whole = [result(name, each) for name in mine for each in asked]
        whole += [group(name, each) for name in mine for each in GROUPS]
        store.commit_all(run, [change(one) if change else one for one in whole])
        store.finish_run(run, "done", 120.0)
    for name in names:
        if name in ("mine", "forgetful", "large-full"):
            train(db, name)
    return store


def train(db: Path, name: str) -> str:
    """Store the training that made a candidate, after one that failed."""
    trainings, one = TrainingStore(db), candidate(name)
    base = TINY if one.model.sha256 == "w-tiny" else LARGE
    begin = TrainingStart(
        name=name,
        fingerprint=fingerprint("training", name),
        method="full" if name.endswith("full") else "lora",
        kind="causal",
        base=base,
        seed=7,
        recipe={"method": {"name": "lora", "rank": 8}, "training": {"learning_rate": 0.001, "epochs": 2}},
        data={"sources": [{"path": "data/train.jsonl", "sha256": "d" * 64, "rows": 900}], "rows": {"train": 900}},
        versions={"tuneboard": "0.1.0", "peft": "0.21.2"},
        hardware={"cpu": "Example CPU", "cores": 2},
        command=f"tuneboard tune recipes/{name}.yaml",
        git_commit="c0ffee",
    )
    failed = trainings.start(replace(begin, fingerprint=fingerprint("failed", name)))
    trainings.fail(failed, "failed", "the loss is not a number at step 3", [(1, 0.1, "loss", 2.5)])
    run = trainings.start(begin)
    points = [
        (step, step / 20, curve, value)
        for step in range(1, 41)
        for curve, value in (
            ("loss", 2.5 * 0.96**step),
            ("learning_rate", 0.001 * (1 - step / 41)),
            ("tokens_per_s", 900.0 + step),
        )
    ]
    points += [(step, step / 20, "validation_loss", 2.6 * 0.965**step) for step in (10, 20, 30, 40)]
    figures = TrainingFigures(40, 2.0, 61.5, 100.0, 55_000, 0.49, 2.6, 0.62, 40, 50_000, 1_050_000, 0.8, 0, ())
    trainings.finish(run, one.fingerprint, Path(f"adapters/trained/{name}"), figures, points)
    return run


def _owner(name: str) -> str:
    return "large" if name.startswith("large") or name == ODD_NAME else "base"


def _metric(metric: str, filter_name: str, values: Sequence[float]) -> MetricValue:
    stderr, ci = stats.single_score(list(values))
    return MetricValue(metric, filter_name, sum(values) / len(values), stderr, ci, True)
