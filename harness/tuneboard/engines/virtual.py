"""Adapters of virtual tokens: prefix tuning, prompt tuning and p-tuning, as peft saves them.

All three put the same ``count`` tokens, which have no text, before every sequence: prefix tuning as keys and values of
each layer (Li and Liang 2021), prompt tuning (Lester et al. 2021) and p-tuning (Liu et al. 2021) as input embeddings.
The base itself stays as it is. Real tokens stand at the positions from ``count`` on, as in peft's own forward pass, and
the context holds ``count`` real tokens less. In its own format peft saves what the prompt encoder gives, never the
encoder: an adapter trained with a projection or an LSTM is a table like the others by then.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tuneboard.engines.loading import adapter_faults
from tuneboard.errors import AdapterError
from tuneboard.records import AdapterRef

#: peft types that are virtual tokens before every sequence.
VIRTUAL = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")


@dataclass(frozen=True, slots=True)
class VirtualTokens:
    """What one adapter puts before every sequence: embeddings or a filled cache.

    Attributes:
        count: Number of virtual tokens.
        embeddings: Their input embeddings, shape [1, count, width]; None for prefix tuning.
        cache: A transformers cache that holds their keys and values; None for the other two.
    """

    count: int
    embeddings: torch.Tensor | None
    cache: Any

    def states(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each layer's keys and values, shape [1, heads, count, dim].

        A layer that slides keeps its window only; what it dropped comes as zeros, which no real token sees.
        """
        for layer in self.cache.layers:
            grow = (0, 0, self.count - layer.keys.shape[2], 0)
            yield torch.nn.functional.pad(layer.keys, grow), torch.nn.functional.pad(layer.values, grow)

    def inputs(self, model: Any, ids: torch.Tensor) -> dict[str, Any]:
        """Return the model's arguments for a whole sequence of real tokens, shape [1, length], behind these."""
        if self.embeddings is None:
            return {"input_ids": ids, "past_key_values": copy.deepcopy(self.cache), "use_cache": True}
        return {"inputs_embeds": torch.cat([self.embeddings, model.get_input_embeddings()(ids)], dim=1)}


def read_virtual_tokens(model: Any, adapter: AdapterRef) -> VirtualTokens:
    """Read an adapter's virtual tokens and check that they fit the base.

    Args:
        model: The base, a causal LM; it is left as it was.
        adapter: An adapter of one of the types ``VIRTUAL``.

    Raises:
        AdapterError: It cannot be read, is for another kind of model, or has other shapes.
    """
    import peft

    with adapter_faults(adapter), torch.no_grad():
        config = peft.PeftConfig.from_pretrained(adapter.path)
        if config.task_type not in (None, "CAUSAL_LM"):
            raise AdapterError(f"adapter {adapter.path} is for {config.task_type}; expected CAUSAL_LM for this base")
        config.inference_mode = True
        wrapped = peft.PeftModelForCausalLM(model, config, adapter_name="virtual")
        wrapped.load_adapter(adapter.path, "virtual")
        prompt, count = wrapped.get_prompt(1), int(config.num_virtual_tokens)
    table = model.get_input_embeddings().weight
    if adapter.kind == "PREFIX_TUNING":
        made = VirtualTokens(count, None, prompt)
        _check_states(adapter, made, model)
        return made
    embeddings = prompt.detach().to(table.device, table.dtype if table.dtype.is_floating_point else torch.float32)
    if embeddings.shape != (1, count, model.get_input_embeddings().embedding_dim):
        raise AdapterError(
            f"adapter {adapter.path} does not fit this base model: its virtual tokens are {embeddings.shape[-1]} wide, "
            f"the model's embeddings {model.get_input_embeddings().embedding_dim}; was it trained on another model?"
        )
    return VirtualTokens(count, embeddings, None)


@torch.inference_mode()
def _check_states(adapter: AdapterRef, virtual: VirtualTokens, model: Any) -> None:
    device = next(model.parameters()).device
    output = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=True)
    own = getattr(output.get("past_key_values"), "layers", None)
    if not own:
        raise AdapterError(
            f"adapter {adapter.path} fills a key-value cache, which {type(model).__name__} does not have; "
            "expected prompt tuning or an adapter inside the layers"
        )
    given, expected = ([_shape(layer) for layer in layers] for layers in (virtual.cache.layers, own))
    if given != expected:
        raise AdapterError(
            f"adapter {adapter.path} does not fit this base model: its prefix has {_words(given)}, the model's cache "
            f"{_words(expected)}; was it trained on another model?"
        )


def _shape(layer: Any) -> tuple[int, ...]:
    """Heads, width of a key, width of a value."""
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return () if keys is None or values is None else (keys.shape[1], keys.shape[3], values.shape[3])


def _words(shapes: list[tuple[int, ...]]) -> str:
    kinds = [f"{shape[0]} heads of {shape[1]}" for shape in dict.fromkeys(shapes) if shape]
    return f"{len(shapes)} layers with {' and '.join(kinds) or 'no states'}"
