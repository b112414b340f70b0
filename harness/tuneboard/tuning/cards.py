"""Model cards: what a candidate is made of, and the scores that ``evaluate`` fills in later.

The front matter follows the hub's model card metadata (https://huggingface.co/docs/hub/model-cards), scores its
``model-index``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneboard.engines.served import is_served
from tuneboard.records import MetricValue, TaskResult
from tuneboard.tuning.folders import read_provenance

_CARD = "README.md"
_BEGIN, _END = "<!-- scores: `tuneboard evaluate` fills them in -->", "<!-- end of scores -->"
_NO_SCORES = "Not evaluated yet."
_PIPELINES = {"causal": "text-generation", "classification": "text-classification", "seq2seq": "text2text-generation"}
_INDEX = "model-index"
#: The hub's reader refuses a source without an address.
_SOURCE = "https://github.com/EleutherAI/lm-evaluation-harness"


def model_card(provenance: Mapping[str, Any]) -> str:
    """Return the card of a candidate that nothing has scored yet.

    Args:
        provenance: Content of its ``provenance.json``.
    """
    front = {
        "base_model": _base_name(provenance),
        "base_model_relation": "finetune" if provenance["method"]["name"] in ("full", "partial") else "adapter",
        "library_name": _library(provenance["method"]["name"]),
        "pipeline_tag": _PIPELINES[provenance["kind"]],
        "tags": ["tuneboard", provenance["method"]["name"]],
    }
    body = [
        f"# {provenance['name']}",
        provenance["recipe"]["description"].strip(),
        _summary(provenance),
        "## Scores",
        f"{_BEGIN}\n{_NO_SCORES}\n{_END}",
        "## Training",
        _table(_training_rows(provenance)),
        *_warning_lines(provenance["warnings"]),
        "## Data",
        _table(_data_rows(provenance["data"])),
        "## Serving",
        "\n".join(f"- {one['engine']}: {_serving_text(one)}" for one in provenance["serving"]),
        "The whole recipe, versions, hardware and curves are in `provenance.json`.",
    ]
    return _joined(front, "\n\n".join(part for part in body if part) + "\n")


def merged_card(provenance: Mapping[str, Any]) -> str:
    """Return the card of a merged model that nothing has scored yet.

    Args:
        provenance: Content of its ``provenance.json``.
    """
    merged = provenance["merged"]
    front = {
        "base_model": _base_name(provenance),
        "base_model_relation": "quantized" if merged["quantization"] else "merge",
        "library_name": "transformers",
        "pipeline_tag": _PIPELINES[provenance["kind"]],
        "tags": ["tuneboard", "merge"],
    }
    summary = (
        f"`{_base_name(provenance)}` with the {merged['adapter_type']} adapter `{merged['adapter']}` merged into its "
        f"weights by tuneboard. On probe texts the merged weights and the adapter differ by {merged['difference']:.2g} "
        "at most in the log-probability of a likely token."
    )
    if merged["quantization"]:
        summary += f" Quantized to {merged['quantization']}, they differ by {merged['quantized_difference']:.2g}."
    body = [f"# {provenance['name']}", summary, "## Scores", f"{_BEGIN}\n{_NO_SCORES}\n{_END}"]
    return _joined(front, "\n\n".join(body) + "\n")


def score_cards(results: Sequence[TaskResult]) -> list[str]:
    """Write scores into the cards of those candidates that lie in folders which ``tuneboard tune`` made.

    Args:
        results: Of any candidates.

    Returns:
        The names of candidates whose cards cannot be written.
    """
    failed = []
    for candidate in {result.candidate.name: result.candidate for result in results}.values():
        if is_served(candidate.model):
            continue  # its name on the server may be that of a folder here
        folder = Path(candidate.adapter.path if candidate.adapter else candidate.model.id)
        if read_provenance(folder) is not None:
            try:
                add_scores(folder, [result for result in results if result.candidate.name == candidate.name])
            except OSError:
                failed.append(candidate.name)
    return failed


def add_scores(folder: Path, results: Sequence[TaskResult]) -> bool:
    """Write a candidate's scores into its card, in place of older ones on the same documents.

    The same results leave the card as it is. Members of a group that is there are left out, as in tables.

    Args:
        folder: The candidate's; one without a card is left alone.
        results: Of this candidate; those that failed are passed over.

    Returns:
        Whether the card changed.

    Raises:
        OSError: The card cannot be written.
    """
    path = folder / _CARD
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    front, body = _split(text)
    if front is None or _BEGIN not in body or _END not in body:
        return False
    members = {name for result in results for name in result.members}
    scored = [r for r in results if r.status in ("done", "reused") and r.metrics and r.task.name not in members]
    fresh = [_entry(result, str(front.get("pipeline_tag"))) for result in scored]
    index = front.get(_INDEX) or [{"name": _title(body), "results": []}]
    kept = {_entry_key(entry): entry for entry in [*index[0]["results"], *fresh]}
    if not kept:
        return False
    entries = [kept[key] for key in sorted(kept)]
    front[_INDEX] = [{"name": index[0]["name"], "results": entries}]
    before, _, rest = body.partition(_BEGIN)
    after = rest.partition(_END)[2]
    new = _joined(front, f"{before}{_BEGIN}\n{_score_table(entries)}\n{_END}{after}")
    if new == text:
        return False
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(new, encoding="utf-8")
    partial.replace(path)
    return True


def _joined(front: Mapping[str, Any], body: str) -> str:
    import yaml

    header = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{header}---\n\n{body}"


def _split(text: str) -> tuple[dict[str, Any] | None, str]:
    import yaml

    if not text.startswith("---\n") or "\n---\n" not in text:
        return None, text
    header, _, body = text.removeprefix("---\n").partition("\n---\n")
    try:
        front = yaml.safe_load(header)
    except yaml.YAMLError:
        return None, text
    return (front if isinstance(front, dict) else None), body.removeprefix("\n")


def _title(body: str) -> str:
    return next((line[2:].strip() for line in body.splitlines() if line.startswith("# ")), "model")


def _base_name(provenance: Mapping[str, Any]) -> str:
    """Return a hub id as it is, of a folder only its name."""
    name = str(provenance["base"]["id"])
    place = Path(name).expanduser()
    return place.resolve().name if place.is_dir() else name


def _library(method: str) -> str:
    return {"full": "transformers", "partial": "transformers", "bottleneck": "tuneboard"}.get(method, "peft")


def _summary(provenance: Mapping[str, Any]) -> str:
    data, trained = provenance["data"], provenance["training"]
    share = trained["trained_parameters"] / max(1, trained["total_parameters"])
    return (
        f"`{_base_name(provenance)}`, fine-tuned with the method `{provenance['method']['name']}` by tuneboard on "
        f"{data['train']:,} examples: {trained['trained_parameters']:,} of {trained['total_parameters']:,} parameters "
        f"({share:.2%}) were trained."
    )


def _training_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    trained, recipe = provenance["training"], provenance["recipe"]["training"]
    losses = f"{_number(trained['first_validation_loss'])} before, {_number(trained['validation_loss'])} after"
    method = provenance["method"]
    options = ", ".join(
        f"{key} {_plain(value)}" for key, value in (method.get("resolved") or method["options"]).items()
    )
    return [
        ("method", provenance["method"]["name"] + (f" ({options})" if options else "")),
        ("validation loss", losses),
        ("steps", f"{trained['steps']:,} ({trained['epochs']:.2f} epochs), best at {trained['best_step'] or '-'}"),
        ("tokens", f"{trained['tokens']:,}"),
        ("schedule", f"{recipe['schedule']}, warmup {recipe['warmup']:g}, batch {recipe['batch_size']}"),
        ("seed", str(recipe["seed"])),
        ("time", f"{trained['seconds']:.0f} s ({trained['cpu_seconds']:.0f} CPU-seconds)"),
        ("peak memory", f"{trained['peak_memory_gib']:.2f} GiB"),
    ]


def _data_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(f"`{one['path']}`", f"{one['rows']:,} rows, {one['format']}") for one in data["sources"]]
    rows += [(one["name"], _step_text(one)) for one in data["steps"]]
    leaks = len({(one["task"], one["doc_id"]) for one in data["leaks"]})
    return [
        *rows,
        ("benchmark items found", f"{leaks:,}"),
        ("training examples", f"{data['train']:,}"),
        ("validation examples", f"{data['validation']:,}"),
    ]


def _step_text(step: Mapping[str, Any]) -> str:
    parts = [f"{step[what]:,} {what}" for what in ("removed", "flagged") if step[what]]
    return ", ".join(parts) or "nothing"


def _warning_lines(warnings: Sequence[str]) -> list[str]:
    return ["Warnings:\n\n" + "\n".join(f"- {line}" for line in warnings)] if warnings else []


def _serving_text(one: Mapping[str, Any]) -> str:
    return f"{one['takes']}" + (f" ({one['note']})" if one["note"] else "")


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = ["| | |", "| --- | --- |"]
    return "\n".join(lines + [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _entry(result: TaskResult, kind: str) -> dict[str, Any]:
    """Return one entry of ``model-index``."""
    config = result.task.config
    dataset = {
        "name": result.task.name,
        "type": str(config.get("dataset_path") or result.task.name),
        "config": config.get("dataset_name"),
        "split": config.get("test_split") or config.get("validation_split"),
        "args": {"num_fewshot": result.task.num_fewshot, "n": result.n},
    }
    return {
        "task": {"type": kind, "name": result.task.name},
        "dataset": {key: value for key, value in dataset.items() if value is not None},
        "metrics": [_metric(metric) for metric in result.metrics if math.isfinite(metric.value)],
        "source": {"name": "tuneboard evaluate, on a task of lm-evaluation-harness", "url": _SOURCE},
    }


def _metric(metric: MetricValue) -> dict[str, Any]:
    name = metric.metric if metric.filter in ("none", "") else f"{metric.metric},{metric.filter}"
    out: dict[str, Any] = {"type": metric.metric, "name": name, "value": round(metric.value, 6)}
    if metric.ci is not None and all(map(math.isfinite, metric.ci)):
        out["args"] = {"ci": [round(bound, 6) for bound in metric.ci]}
    return out


def _entry_key(entry: Mapping[str, Any]) -> tuple[str, int, int]:
    args = entry["dataset"].get("args") or {}
    return entry["dataset"]["name"], int(args.get("num_fewshot", 0)), int(args.get("n", 0))


def _score_table(entries: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| task | few-shot | n | metric | value | 95 % interval |", "| --- | --- | --- | --- | --- | --- |"]
    for entry in entries:
        task, shots, n = _entry_key(entry)
        for metric in entry["metrics"]:
            bounds = (metric.get("args") or {}).get("ci")
            interval = f"[{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "-"
            lines.append(f"| {task} | {shots} | {n:,} | {metric['name']} | {metric['value']:.4f} | {interval} |")
    return "\n".join(lines)
