"""The adapters on one base: attached side by side, switched from one candidate to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from tuneboard.engines import bottleneck
from tuneboard.engines.forward import TreeModel
from tuneboard.engines.loading import INJECTED, attach_adapter
from tuneboard.engines.protocol import BASE, Notice
from tuneboard.engines.sharing import can_share_behind
from tuneboard.engines.virtual import VIRTUAL, VirtualTokens, read_virtual_tokens
from tuneboard.errors import AdapterError, EngineError, ModelError
from tuneboard.records import AdapterRef

#: Types of adapters that stand on a base in this engine.
SERVED = (*INJECTED, *VIRTUAL, bottleneck.KIND)


@dataclass(frozen=True, slots=True)
class Serving:
    """How the active candidate is served.

    Attributes:
        shares_prefixes: Whether its prefixes can be shared.
        virtual: Virtual tokens before every sequence. With shared prefixes they stand in the model's cache already.
    """

    shares_prefixes: bool
    virtual: VirtualTokens | None = None


class Family(Protocol):
    """Adapters of one kind on one base."""

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add one; raises ``AdapterError`` if it does not fit, and leaves the base as it was."""
        ...

    def active(self, name: str | None) -> AbstractContextManager[Serving]:
        """Within it, the adapter ``name`` and no other is applied; None: none is."""
        ...


class Adapters:
    """All adapters on a base; one kind at a time.

    Args:
        tree: The base.
        shares_prefixes: Whether it can share them.
        max_length: Context length in tokens.
        notice: Told about what an adapter costs.
    """

    def __init__(self, tree: TreeModel, shares_prefixes: bool, max_length: int, notice: Notice) -> None:
        self._tree, self._shares, self._max_length, self._notice = tree, shares_prefixes, max_length, notice
        self._kind: str | None = None
        self._family: Family | None = None
        self._names: set[str] = set()

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter under ``name``.

        Raises:
            AdapterError: It does not fit, or is of another type than those attached already.
        """
        if adapter.kind not in SERVED:
            raise AdapterError(
                f"adapter {adapter.path} is of type {adapter.kind}; the transformers engine serves {', '.join(SERVED)}"
            )
        if self._kind not in (None, adapter.kind):
            raise AdapterError(f"adapter {adapter.path} is {adapter.kind}, beside {self._kind}; load it on its own")
        family = self._family or self._new_family(adapter.kind)
        family.attach(name, adapter)
        self._family, self._kind = family, adapter.kind
        self._names.add(name)

    def active(self, candidate: str) -> AbstractContextManager[Serving]:
        """Within it, the model is that candidate.

        Raises:
            EngineError: No adapter of that name is attached.
        """
        if candidate != BASE and candidate not in self._names:
            raise EngineError(f"no adapter named '{candidate}' is attached")
        if self._family is None:
            return nullcontext(Serving(self._shares))
        return self._family.active(None if candidate == BASE else candidate)

    def _new_family(self, kind: str) -> Family:
        if kind in VIRTUAL:
            return _Virtual(self._tree, self._shares, self._max_length, self._notice)
        made = _Bottlenecks if kind == bottleneck.KIND else _Injected
        return made(self._tree.model, Serving(self._shares))


class _Injected:
    """Adapters that peft puts into the layers of the base."""

    def __init__(self, model: Any, serving: Serving) -> None:
        self._model, self._serving = model, serving
        self._peft: Any = None
        self._names: dict[str, str] = {}

    def attach(self, name: str, adapter: AdapterRef) -> None:
        # Names of peft's own: those of candidates may hold dots, which module names may not.
        inner = f"candidate{len(self._names)}"
        self._peft = attach_adapter(self._peft if self._peft is not None else self._model, inner, adapter)
        self._names[name] = inner

    @contextmanager
    def active(self, name: str | None) -> Iterator[Serving]:
        if name is None:
            with self._peft.disable_adapter():
                yield self._serving
        else:
            self._peft.set_adapter(self._names[name])
            yield self._serving


class _Bottlenecks:
    """Our own adapters behind the sublayers of the base."""

    def __init__(self, model: Any, serving: Serving) -> None:
        self._model, self._serving = model, serving

    def attach(self, name: str, adapter: AdapterRef) -> None:
        bottleneck.attach(self._model, name, adapter)

    @contextmanager
    def active(self, name: str | None) -> Iterator[Serving]:
        bottleneck.activate(self._model, name)
        yield self._serving


class _Virtual:
    """Virtual tokens at the root of the base's cache."""

    def __init__(self, tree: TreeModel, shares_prefixes: bool, max_length: int, notice: Notice) -> None:
        self._tree, self._shares, self._max_length, self._notice = tree, shares_prefixes, max_length, notice
        self._servings: dict[str, Serving] = {}

    def attach(self, name: str, adapter: AdapterRef) -> None:
        virtual = read_virtual_tokens(self._tree.model, adapter)
        room = self._max_length - virtual.count
        if room < 1:
            raise AdapterError(
                f"adapter {adapter.path} has {virtual.count} virtual tokens; the context holds {self._max_length}"
            )
        try:
            shares = can_share_behind(self._tree, virtual, room, self._notice) and self._shares
        except ModelError as error:
            raise AdapterError(f"adapter {adapter.path} cannot be applied: {error}") from error
        if self._shares and not shares:
            self._notice(f"{name} cannot share prefixes behind its virtual tokens; every request is computed whole")
        self._servings[name] = Serving(shares, virtual)

    @contextmanager
    def active(self, name: str | None) -> Iterator[Serving]:
        serving = Serving(self._shares) if name is None else self._servings[name]
        if not serving.shares_prefixes:
            yield serving
            return
        self._tree.plant(serving.virtual)
        try:
            yield serving
        finally:
            self._tree.plant(None)
