"""Ways of fine-tuning, one file each.

A file in this folder that defines what ``Method`` asks for is a method; its ``NAME`` is what recipes say. Nothing has
to be registered.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from tuneboard.errors import UnknownName
from tuneboard.tuning.records import ModelKind


class Method(Protocol):
    """What the module of a method offers; heavy libraries are imported inside its functions."""

    NAME: str
    HELP: str
    """One line."""
    KINDS: frozenset[ModelKind]
    """Kinds of models it fits."""
    LEARNING_RATE: float
    """Peak learning rate where the recipe names none."""
    USUAL_RATES: tuple[float, float]
    """Outside of this range a person would ask whether it is meant."""
    FEWEST_EXAMPLES: int
    """Below it a person would doubt that the method has enough to learn from."""
    OPTIMIZER: str
    """What ``optimizer: auto`` means."""
    QUANTIZATION: str | None
    """What the base is loaded in (``4bit``), or None for full precision."""
    MERGES: bool
    """Whether its result can be merged into the base's weights."""
    Options: type[Any]
    """A frozen dataclass; its fields are the method's settings in a recipe, their types are checked by pydantic."""

    def prepare(self, model: Any, options: Any, kind: ModelKind) -> Any:
        """Return the model to train, with ``requires_grad`` set on what is trained and on nothing else.

        Args:
            model: The base, freshly loaded; it may be changed.
            options: An ``Options``.
            kind: What the model is trained for; classification models come with a new head, which is trained too.

        Raises:
            UsageError: An option does not fit the model (a target module that it lacks, more layers than it has).
        """
        ...

    def save(self, model: Any, folder: Path) -> None:
        """Write what ``prepare`` returned, after training, as safetensors in the library's own format."""
        ...


@cache
def method_names() -> tuple[str, ...]:
    """Return the names of all methods, sorted; imports none of them."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")))


def find_method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        UnknownName: There is none; carries near matches.
    """
    if name not in method_names():
        raise UnknownName("method", name, method_names(), f"methods: {', '.join(method_names())}")
    return cast(Method, importlib.import_module(f"{__name__}.{name}"))


def resolved_options(method: Method, model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's settings as they were carried out, with what ``auto`` and None came to for one model.

    Args:
        method: Its module may offer ``resolved(model)``, which returns the settings that depend on the model.
        model: What ``prepare`` returned, before or after training.
        options: The method's settings, complete.
    """
    resolve = getattr(method, "resolved", None)
    return {**options, **(resolve(model) if resolve else {})}
