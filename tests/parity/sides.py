"""The two sides of a parity check: the ``tuneboard`` command, and ``lm_eval.simple_evaluate`` with its ``hf`` model."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from parity.mirror_patch import lm_eval_with_mirror
from parity.pinned import pinned

#: Takes a line for the summary.
Note = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """A base model and an adapter of it."""

    name: str
    model: Path
    adapter: Path


@dataclass(frozen=True)
class Question:
    """What is asked of both sides."""

    tasks: tuple[str, ...]
    num_fewshot: int | None
    limit: int | None
    dtype: str = "float32"


@dataclass(frozen=True)
class Outcome:
    """What one side found for one candidate.

    Attributes:
        metrics: ``{task: {"metric,filter": value}}``, groups among the tasks.
        samples: ``{task: {(doc_id, filter): {"doc_hash", "prompt_hash", "target", "responses", "metrics"}}}``;
            lm-eval's also hold the first "prompt" and the "arguments" of every request.
    """

    metrics: Mapping[str, Mapping[str, float]]
    samples: Mapping[str, Mapping[tuple[int, str], Mapping[str, Any]]]


def lm_eval_side(
    subject: Subject, question: Question, mirror: Path, with_adapter: bool, folders: tuple[Path, ...] = ()
) -> Outcome:
    """Evaluate with lm-eval, one request at a time, so that no padding is in play.

    ``folders`` hold the tasks that it is to know, in place of its own 14,000 files, which take it seconds to read.
    """
    return pinned(_simple_evaluate, subject, question, mirror, with_adapter, folders)


@cache
def _task_manager(folders: tuple[Path, ...]) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(folders), include_defaults=False) if folders else TaskManager()


def _simple_evaluate(
    subject: Subject, question: Question, mirror: Path, with_adapter: bool, folders: tuple[Path, ...]
) -> Outcome:
    import lm_eval

    arguments = {"pretrained": str(subject.model), "dtype": question.dtype}
    if with_adapter:
        arguments["peft"] = str(subject.adapter)
    with lm_eval_with_mirror(mirror), contextlib.redirect_stderr(io.StringIO()):
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=arguments,
            tasks=list(question.tasks),
            num_fewshot=question.num_fewshot,
            limit=question.limit,
            batch_size=1,
            device="cpu",
            bootstrap_iters=0,
            task_manager=_task_manager(folders),
            log_samples=True,
        )
    metrics = {
        name: {key: float(value) for key, value in row.items() if "," in key and "_stderr" not in key}
        for name, row in found["results"].items()
    }
    return Outcome(
        metrics, {task: {_key(row): _reference(row) for row in rows} for task, rows in found["samples"].items()}
    )


def in_double_precision(subject: Subject, with_adapter: bool, arguments: tuple[str, str]) -> float:
    """Return the log-probability that lm-eval finds for one request, context and continuation, in double precision."""
    from lm_eval.api.instance import Instance

    request = Instance(request_type="loglikelihood", doc={}, arguments=arguments, idx=0)
    return float(_in_double(subject, with_adapter).loglikelihood([request], disable_tqdm=True)[0][0])


@cache
def _in_double(subject: Subject, with_adapter: bool) -> Any:
    from lm_eval.models.huggingface import HFLM

    adapter = str(subject.adapter) if with_adapter else None
    return HFLM(str(subject.model), peft=adapter, dtype="float64", batch_size=1, device="cpu")


def _key(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["doc_id"], row["filter"]


def _reference(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: str(row[name]) for name in ("doc_hash", "prompt_hash", "target")}
    responses = [response for responses in row["resps"] for response in responses]
    arguments = row["arguments"]
    listed = arguments if isinstance(arguments, list) else list(arguments.values())
    requests = [tuple(each) if isinstance(each, Sequence) else tuple(each.values()) for each in listed]
    return kept | {
        "responses": [_response(response) for response in responses],
        "metrics": {name: row[name] for name in row["metrics"]},
        "prompt": requests[0][0],
        "arguments": requests,
    }


def _response(given: Any) -> str | tuple[float, bool]:
    """A text, or a log-probability and whether it was the likeliest; of a whole text that is not asked."""
    if isinstance(given, str):
        return given
    return (float(given), False) if isinstance(given, int | float) else (float(given[0]), bool(given[1]))


def tuneboard_side(subject: Subject, question: Question, mirror: Path, db: Path) -> dict[bool, Outcome]:
    """Evaluate base and adapter in one command and export every sample; keyed by whether the adapter was on."""
    arguments = ["--model", str(subject.model), "--adapter", f"tuned={subject.adapter}", "--mirror", str(mirror)]
    arguments += ["--tasks", ",".join(question.tasks), "--device", "cpu", "--dtype", question.dtype, "--json"]
    if question.num_fewshot is not None:
        arguments += ["--num-fewshot", str(question.num_fewshot)]
    if question.limit is not None:
        arguments += ["--limit", str(question.limit)]
    cells = json.loads(_tuneboard("evaluate", *arguments, "--db", str(db)))["cells"]
    return {tuned: _outcome(cells, "tuned" if tuned else "base", db) for tuned in (False, True)}


def _outcome(cells: Sequence[Mapping[str, Any]], candidate: str, db: Path) -> Outcome:
    mine = [cell for cell in cells if cell["candidate"] == candidate]
    assert all(cell["status"] == "done" and cell["failed"] == 0 for cell in mine), mine
    metrics = {
        cell["task"]: {f"{row['metric']},{row['filter']}": row["value"] for row in cell["metrics"]} for cell in mine
    }
    samples = {cell["task"]: _samples(candidate, cell["task"], db) for cell in mine if cell["kind"] == "task"}
    return Outcome(metrics, samples)


def _samples(candidate: str, task: str, db: Path) -> dict[tuple[int, str], Mapping[str, Any]]:
    lines = _tuneboard("export", "samples", "--candidate", candidate, "--task", task, "--db", str(db)).splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["responses"] = [_response(response) for response in row["responses"]]
    return {_key(row): row for row in rows}


def _tuneboard(*arguments: str) -> str:
    return pinned(_run, *arguments)


def _run(*arguments: str) -> str:
    from tuneboard.cli.main import main

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([*arguments])
    assert code == 0, errors.getvalue()[-2000:]
    return out.getvalue()
