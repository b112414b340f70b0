"""Sets values of a recipe by dotted keys such as ``training.learning_rate``, as ``--set`` and sweeps do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuneboard.errors import UsageError

#: Keys that may be given as a bare name, and the key that the name then stands for.
SHORTHANDS = {"base": "model", "method": "name", "data": "sources"}


def read_settings(settings: Sequence[tuple[str, str]]) -> list[tuple[str, Any]]:
    """Read the values of ``(key, YAML value)`` pairs.

    Raises:
        UsageError: A value is not YAML.
    """
    import yaml

    out = []
    for key, text in settings:
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise UsageError(f"--set {key}={text}: the value is not YAML; quote it") from error
        out.append((key, _number(value) if isinstance(value, str) else value))
    return out


def put(mapping: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key such as ``data.sources.0.limit`` in nested mappings and lists.

    ``data`` alone, with a file or a list of sources, sets the sources and leaves the rest of the section as it is.
    Another ``method.name`` takes the place of the whole section: options of one method are none of another.

    Args:
        mapping: A recipe; it is changed.
        key: Where.
        value: What.
        source: Named in the error, such as ``--set data.limit``.

    Raises:
        UsageError: The key leads through something that is neither.
    """
    if key == "data" and isinstance(value, (str, list)):
        key, value = "data.sources", [{"path": value}] if isinstance(value, str) else value
    if key == "method.name" and _method(mapping) != value:
        key = "method"
    *path, last = key.split(".")
    here: Any = mapping
    for depth, part in enumerate(path):
        if isinstance(here, dict):
            here[part] = _section(here.get(part), part, [*path, last][depth + 1])
            here = here[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            raise UsageError(
                f"{source}: there is no '{'.'.join(path[: depth + 1])}' in the recipe; expected a key of it"
            )
    if isinstance(here, list) and last.isdigit() and int(last) < len(here):
        here[int(last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"{source}: '{'.'.join(path)}' holds no keys; expected a place in the recipe")


def places(key: str, value: Any) -> Iterator[str]:
    """Yield the keys that setting ``key`` to ``value`` sets: each one inside a mapping, shorthands written out."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from places(f"{key}.{inner}", one)
    else:
        yield f"{key}.{SHORTHANDS[key]}" if key in SHORTHANDS else key


def _method(mapping: Mapping[str, Any]) -> Any:
    method = mapping.get("method")
    return method.get("name") if isinstance(method, dict) else method


def _section(inside: Any, name: str, following: str) -> Any:
    """Return what a section holds, as a mapping where it is left out or given as a bare name."""
    if inside is None:
        return {}
    bare = isinstance(inside, str) or (isinstance(inside, list) and not following.isdigit())
    return {SHORTHANDS[name]: inside} if name in SHORTHANDS and bare else inside


def _number(text: str) -> Any:
    """YAML reads ``1e-4`` as text."""
    try:
        return float(text)
    except ValueError:
        return text
