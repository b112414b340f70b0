"""A model that is not causal, with the adapters over it: loaded once, switched from candidate to candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tuneboard.engines import bottleneck, loading
from tuneboard.engines.families import Family, load_family
from tuneboard.engines.loading import INJECTED, LoadOptions, adapter_faults
from tuneboard.engines.lora import speed_up
from tuneboard.engines.protocol import BASE, EngineInfo
from tuneboard.engines.virtual import VIRTUAL
from tuneboard.errors import AdapterError, EngineError, ModelError
from tuneboard.records import AdapterRef, ModelRef

_SERVED = (*INJECTED, *VIRTUAL, bottleneck.KIND)


class AdaptedModel:
    """A loaded model and its adapters, of which one is active or none.

    Args:
        ref: The base model.
        options: Device and what is trusted.
        family: What it is loaded as.

    Attributes:
        model: The model itself, in evaluation mode.
        tokenizer: Its tokenizer.
        missing: Names of weights that its files do not hold, such as those of a head; they are random.
        load_s: Seconds that loading took.

    Raises:
        ModelError: Missing, of another kind, in a refused format, or too large.
    """

    def __init__(self, ref: ModelRef, options: LoadOptions, family: Family) -> None:
        import peft  # noqa: F401  # seconds of imports are no part of the time that loading takes

        started = time.perf_counter()
        self.family = family
        self.model, self.tokenizer, self.missing = load_family(ref, options, family)
        self.device: torch.device = next(self.model.parameters()).device
        self._peft: Any = None
        self._kind: str | None = None
        self._names: dict[str, str] = {}
        self.load_s = time.perf_counter() - started

    @property
    def tokenizer_name(self) -> str:
        """Path or id of the tokenizer."""
        return str(self.tokenizer.name_or_path)

    def info(self, details: Mapping[str, Any]) -> EngineInfo:
        """Describe the engine that serves it, with ``details`` of its own."""
        import transformers

        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        facts = {
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "architecture": type(self.model).__name__,
            "load_s": self.load_s,
        }
        dtype = str(self.model.dtype).split(".")[-1]
        return EngineInfo(self.family.engine, transformers.__version__, device, dtype, facts | dict(details))

    def attach(self, name: str, adapter: AdapterRef, trial: Callable[[Any], object]) -> None:
        """Add an adapter under ``name``.

        Args:
            name: Not taken yet.
            adapter: Of a type that is served.
            trial: Called with the model while the adapter is active; a forward pass tells whether virtual tokens fit.

        Raises:
            AdapterError: It does not fit, lacks a weight that the base lacks too, or is of another type than those
                attached already; it leaves nothing behind then.
            EngineError: What ``trial`` raises; nothing is left behind then either.
        """
        if adapter.kind not in _SERVED:
            raise AdapterError(
                f"adapter {adapter.path} is of type {adapter.kind}; expected one of {', '.join(_SERVED)}"
            )
        if self._kind not in (None, adapter.kind):
            raise AdapterError(f"adapter {adapter.path} is {adapter.kind}, beside {self._kind}; load it on its own")
        started = time.perf_counter()
        self._check_whole(adapter)
        before = self._kind, self._peft, dict(self._names)
        inner = f"candidate{len(self._names)}"
        if adapter.kind == bottleneck.KIND:
            bottleneck.attach(self.model, inner, adapter)
        else:
            self._attach_peft(inner, adapter)
        self._kind, self._names[name] = adapter.kind, inner
        try:
            with adapter_faults(adapter), self.active(name) as model:
                trial(model)
        except (AdapterError, EngineError):
            self._kind, self._peft, self._names = before
            self._detach(inner, adapter)
            raise
        self.load_s += time.perf_counter() - started

    def weights(self, adapter: AdapterRef) -> dict[str, torch.Tensor]:
        """Read an adapter's weights; the names of modules saved whole are those in the base.

        Raises:
            AdapterError: They cannot be read.
        """
        import peft

        with adapter_faults(adapter):
            found = peft.load_peft_weights(adapter.path, device="cpu")
        before = "base_model.model." if adapter.kind in INJECTED else "base_model."
        return {name.removeprefix(before): weight for name, weight in found.items()}

    def virtual_tokens(self, name: str) -> int:
        """Return how many tokens of its own a candidate puts before every sequence."""
        config = self._peft.peft_config[self._names[name]] if self._peft is not None and name != BASE else None
        return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0

    @contextmanager
    def active(self, name: str, head_alone: bool = False) -> Iterator[Any]:
        """Within it, the model answers as one candidate; yields what to call.

        Args:
            name: Under which the adapter was attached; ``BASE`` for the base.
            head_alone: Whether to apply, of the adapter, only the modules that were saved whole.

        Raises:
            EngineError: No adapter of that name is attached.
        """
        if name != BASE and name not in self._names:
            raise EngineError(f"no adapter named '{name}' is attached")
        if self._kind == bottleneck.KIND:
            with _bottleneck(self.model, self._names.get(name), head_alone):
                yield self.model
        elif self._peft is None:
            yield self.model
        else:
            bare = name == BASE or head_alone
            if name != BASE:
                self._peft.set_adapter(self._names[name])
            with _switched_off(self._peft, layers=bare, modules=name == BASE):
                yield self.model if bare else self._peft

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template.

        Raises:
            ModelError: The tokenizer has none.
        """
        if not self.tokenizer.chat_template:
            raise ModelError(f"{self.tokenizer_name} has no chat template; leave --apply-chat-template out")
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    def close(self) -> None:
        """Free the model."""
        self.model = self._peft = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _check_whole(self, adapter: AdapterRef) -> None:
        if self.missing and (lost := sorted(set(self.missing) - self.weights(adapter).keys())):
            raise AdapterError(
                f"weight '{lost[0]}' is neither in the base nor in adapter {adapter.path}, and {len(lost) - 1} more; "
                "train it again with the new modules in modules_to_save"
            )

    def _attach_peft(self, inner: str, adapter: AdapterRef) -> None:
        import peft

        try:
            with adapter_faults(adapter):
                config = peft.PeftConfig.from_pretrained(adapter.path)
                config.inference_mode = True
                model = self._peft
                if model is None:
                    model = getattr(peft, self.family.wrapper)(self.model, config, adapter_name=inner)
                result = model.load_adapter(adapter.path, inner)
                if adapter.kind in VIRTUAL:
                    # They are loaded apart from the other weights, which know no such name.
                    result.unexpected_keys[:] = [key for key in result.unexpected_keys if key != "prompt_embeddings"]
                loading.check_complete(adapter, inner, result)
                self._check_saved(model, inner, adapter)
        except AdapterError:
            self._detach(inner, adapter)
            raise
        speed_up(model)
        self._peft = model.eval()

    def _detach(self, inner: str, adapter: AdapterRef) -> None:
        """Undo an adapter that was attached in part or whole; ``_peft`` is as it was before."""
        if adapter.kind == bottleneck.KIND:
            bottleneck.detach(self.model, inner)
        else:
            loading.take_out(self._peft if self._peft is not None else self.model, inner)

    def _check_saved(self, model: Any, inner: str, adapter: AdapterRef) -> None:
        """Refuse modules to save that the file lacks: peft leaves them as the base has them, and does not say so."""
        from peft.utils.other import ModulesToSaveWrapper

        given = self.weights(adapter)
        for path, module in model.named_modules():
            if isinstance(module, ModulesToSaveWrapper) and inner in module.modules_to_save:
                own = path.removeprefix("base_model.").removeprefix("model." if adapter.kind in INJECTED else "")
                for name in module.modules_to_save[inner].state_dict():
                    if f"{own}.{name}" not in given:
                        raise AdapterError(
                            f"adapter {adapter.path} does not match its own config: weight '{own}.{name}' is missing; "
                            "save it with peft's save_pretrained"
                        )


@contextmanager
def _bottleneck(model: Any, inner: str | None, head_alone: bool) -> Iterator[None]:
    bottleneck.activate(model, inner)
    for place in model.modules() if head_alone else ():
        if isinstance(place, bottleneck.Place):
            place.active = None
    try:
        yield
    finally:
        bottleneck.activate(model, None)


@contextmanager
def _switched_off(model: Any, layers: bool, modules: bool) -> Iterator[None]:
    """Switch off adapter layers, and modules saved whole, each apart; peft switches both, or virtual tokens alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    inside = [one for one in model.modules() if layers and isinstance(one, BaseTunerLayer)]
    whole = [one for one in model.modules() if modules and isinstance(one, AuxiliaryTrainingWrapper)]

    def switch(enabled: bool) -> None:
        for layer in inside:
            layer.enable_adapters(enabled)
        for module in whole:
            # The method of the derived class looks for the active adapter in modules that may not have it.
            AuxiliaryTrainingWrapper.enable_adapters(module, enabled)

    switch(False)
    try:
        yield
    finally:
        switch(True)
