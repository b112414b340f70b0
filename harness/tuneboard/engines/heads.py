"""Classification heads of adapters with different numbers of labels over one encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tuneboard.errors import ModelError


class HeadSlot:
    """The last layer of a model's classification head: one row of weights per label.

    peft copies the head of the base for each adapter before it fills the copy, so that all heads would have as many
    labels as the base's.

    Args:
        model: A transformers model with a classification head.

    Raises:
        ModelError: It has no such layer outside of its body.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        body = f"{model.base_model_prefix}."
        layers = [
            path
            for path, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
            and module.out_features == model.config.num_labels
            and not path.startswith(body)
        ]
        if not layers:
            raise ModelError(
                f"{type(model).__name__} has no classification head; expected one that ends in a linear layer"
            )
        self.path = layers[-1]

    def labels_in(self, weights: Mapping[str, torch.Tensor]) -> int | None:
        """Return the number of labels of an adapter's own head, None if it brings none.

        Args:
            weights: Of the adapter, by their names in the model.
        """
        weight = weights.get(f"{self.path}.weight")
        return None if weight is None else int(weight.shape[0])

    @contextmanager
    def sized(self, labels: int) -> Iterator[None]:
        """Within it, the base's own head is of another size, for adapters that are attached to copy."""
        parent, name = self._place()
        own = getattr(parent, name)
        if own.out_features == labels:
            yield
            return
        weight = own.weight
        other = torch.nn.Linear(
            own.in_features, labels, bias=own.bias is not None, device=weight.device, dtype=weight.dtype
        )
        setattr(parent, name, other)
        try:
            yield
        finally:
            # Attaching may have wrapped the layer itself.
            setattr(*self._place(), own)

    def _place(self) -> tuple[torch.nn.Module, str]:
        from peft.utils.other import AuxiliaryTrainingWrapper

        parent, (*above, last) = self.model, self.path.split(".")
        for name in above:
            parent = getattr(parent, name)
            if isinstance(parent, AuxiliaryTrainingWrapper):
                parent = parent.original_module
        inner = getattr(parent, last)
        return (inner, "original_module") if isinstance(inner, AuxiliaryTrainingWrapper) else (parent, last)
