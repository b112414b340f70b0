"""Names of the labels that a classification head tells apart; imports no torch.

A full checkpoint names them as ``id2label`` in its config. An adapter has no config of a model: it names them in
``labels.json`` beside its own, ``{"labels": [...], "pair": false}``, in the order of the head's outputs. Such a file
beside a checkpoint wins over ``id2label``.

A model that was trained on pairs (premise and hypothesis) says ``"pair": true``, in ``labels.json`` or in
``provenance.json``. lm-eval's contexts are one text each: for such a model, a context that holds the separator exactly
once (a tab, or what ``"separator"`` names) is encoded as the pair of what stands before and after it; any other context
is encoded as one text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.errors import EngineError, ModelError

LABELS_FILE = "labels.json"
_PROVENANCE_FILE = "provenance.json"
#: Names that transformers gives to labels nobody named.
_UNNAMED = "LABEL_"
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one head, in the order of its outputs."""

    names: tuple[str, ...]
    pair: bool = False
    """Whether the model was trained on pairs of texts."""
    separator: str = "\t"
    """What parts the two texts of a pair in a context."""

    def index(self, continuation: str) -> int:
        """Return the place of the label that a continuation names, whatever its case and the spaces around it.

        Raises:
            EngineError: No label has this name, or two that differ in case only.
        """
        name = continuation.strip()
        if name in self.names:
            return self.names.index(name)
        places = [place for place, own in enumerate(self.names) if own.strip().casefold() == name.casefold()]
        if len(places) == 1:
            return places[0]
        raise EngineError(f"'{name[:40]}' is none of the model's labels ({self.listed}); {self._remedy}")

    def texts(self, context: str) -> tuple[str, ...]:
        """Return the one or two texts that a context stands for."""
        parts = tuple(context.split(self.separator)) if self.pair else (context,)
        return parts if len(parts) == 2 else (context,)

    @property
    def listed(self) -> str:
        """The names for people, the first eight of many."""
        more = f", ... {len(self.names)} in all" if len(self.names) > _SHOWN else ""
        return ", ".join(self.names[:_SHOWN]) + more

    @property
    def _remedy(self) -> str:
        if all(name.startswith(_UNNAMED) for name in self.names):
            return f"name them: id2label in config.json, or {LABELS_FILE} beside an adapter"
        return "expected a task whose choices are label names"


def model_labels(folder: str, id2label: Mapping[int, str]) -> Labels:
    """Read the labels of a full checkpoint.

    Args:
        folder: The model's folder; a hub id has nothing beside its config.
        id2label: Of its config.

    Raises:
        ModelError: ``labels.json`` is unreadable or names another number of labels.
    """
    names = tuple(str(id2label[place]) for place in sorted(id2label))
    return _read(Path(folder), len(names), names)


def adapter_labels(folder: str, count: int, base: Labels | None) -> Labels:
    """Read the labels of an adapter.

    Args:
        folder: The adapter's.
        count: Outputs of its head.
        base: Labels of the base, which an adapter without ``labels.json`` shares if they are as many.

    Raises:
        ModelError: ``labels.json`` is unreadable or names another number of labels.
    """
    if base is not None and len(base.names) == count:
        return _read(Path(folder), count, base.names, base)
    return _read(Path(folder), count, tuple(f"{_UNNAMED}{place}" for place in range(count)))


def _read(folder: Path, count: int, names: tuple[str, ...], base: Labels | None = None) -> Labels:
    own, origin = _json(folder / LABELS_FILE), _json(folder / _PROVENANCE_FILE)
    given = own.get("labels", names)
    texts = isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(one, str) for one in given)
    if not texts or len(given) != count or len(set(given)) != count:
        raise ModelError(
            f'{folder / LABELS_FILE} does not name the labels of its head; expected {{"labels": [...]}} with {count} '
            "different names"
        )
    inherited = {"pair": base.pair, "separator": base.separator} if base is not None else {}
    settings = inherited | origin | own
    separator = settings.get("separator") or "\t"
    return Labels(tuple(given), settings.get("pair") is True, str(separator))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); expected a JSON object") from error
    if not isinstance(value, dict):
        raise ModelError(f'{path} is not a JSON object; expected one such as {{"labels": ["no", "yes"]}}')
    return value
