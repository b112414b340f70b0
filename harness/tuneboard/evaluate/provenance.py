"""How a run came to be: versions, hardware, seeds, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from tuneboard.engines.kinds import candidate_kind
from tuneboard.evaluate.request import EvaluateRequest
from tuneboard.machine import hardware, versions
from tuneboard.records import Provenance


def provenance(request: EvaluateRequest, engine: Mapping[str, str]) -> Provenance:
    """Describe a run.

    Args:
        request: What is evaluated.
        engine: Name, version, device and dtype of the engine.
    """
    return Provenance(
        command=request.command,
        engine=engine,
        versions=versions(),
        hardware=hardware(),
        seeds={"fewshot": request.seed, "repeat": request.repeat},
        suite=request.suite.name or None,
        settings={
            "tasks": [asdict(task) for task in request.suite.tasks],
            "limit": request.limit,
            "num_fewshot": request.num_fewshot,
            "gen_kwargs": dict(request.gen_kwargs),
            "max_length": request.max_length,
            "prompts": asdict(request.prompts),
            "task_files": [str(path) for path in request.task_files],
            "mirror": str(request.mirror) if request.mirror else None,
            "candidates": [asdict(candidate) for candidate in request.candidates],
            "kinds": {candidate.name: candidate_kind(candidate) for candidate in request.candidates},
        },
    )
