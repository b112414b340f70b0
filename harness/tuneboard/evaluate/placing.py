"""Which candidates share a loaded model, and which cannot answer at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tuneboard.engines.kinds import Kind, candidate_kind
from tuneboard.errors import ModelError
from tuneboard.records import Candidate


@dataclass(frozen=True, slots=True)
class EngineGroup:
    """Candidates that one loaded model serves: a base, and adapters of one type on it."""

    kind: Kind
    """What the model is loaded as."""
    candidates: tuple[Candidate, ...]


def without_headless(candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """Leave out a base that is an encoder without a head, where other candidates bring theirs.

    Such a base answers nothing: whatever stood in its cells would be the answers of random weights.

    Args:
        candidates: The base first. A checkpoint beside it is asked for by name, so it is never left out in silence.

    Returns:
        The candidates that answer, and a reason for each that was left out, by name.

    Raises:
        AdapterError: An adapter is for another kind of model than its base.
        ModelError: An encoder without a head that nobody stands on, or no candidate that answers.
    """
    headless = [candidate for candidate in candidates if candidate_kind(candidate) == "encoder"]
    kept = tuple(candidate for candidate in candidates if candidate not in headless)
    carrying = {candidates[0].model.sha256, *(one.model.sha256 for one in kept if one.adapter is not None)}
    for candidate in headless:
        if not kept or candidate.model.sha256 not in carrying:
            raise ModelError(
                f"{candidate.model.id} is an encoder without a classification head and answers nothing; "
                "fine-tune it on labels, or give adapters on it that bring a head"
            )
    reason = "'{}' is left out: {} has no classification head and answers nothing by itself"
    return kept, {one.name: reason.format(one.name, one.model.id) for one in headless}


def engine_groups(candidates: Sequence[Candidate]) -> Iterator[EngineGroup]:
    """Put candidates together that can share a loaded model; a base goes with the first adapters of its own kind."""
    by_model: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_model[candidate.model.sha256].append(candidate)
    for members in by_model.values():
        kinds = [candidate_kind(member) for member in members]
        homes = [(kind, one.adapter.kind) for kind, one in zip(kinds, members, strict=True) if one.adapter is not None]
        groups: defaultdict[tuple[Kind, str], list[Candidate]] = defaultdict(list)
        for kind, member in zip(kinds, members, strict=True):
            if member.adapter is not None:
                groups[kind, member.adapter.kind].append(member)
            else:
                groups[next((home for home in homes if home[0] == kind), (kind, ""))].append(member)
        for (kind, _), own in groups.items():
            yield EngineGroup(kind, tuple(own))
