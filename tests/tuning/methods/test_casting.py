from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tuneboard.tuning.casting import converted_once

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"targets": "all-linear", "dropout": 0.0}),
    ("lora", {"dora": True, "dropout": 0.0}),
    ("partial", {"freeze_layers": 1}),
    ("full", {}),
    ("ia3", {}),
    ("bottleneck", {}),
]


def answers(ready: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits under autocast, without dropout, and all gradients of their mean square, one behind the other."""
    ready.model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = ready.model(**ready.inputs()).logits.float()
    logits.square().mean().backward()
    gradients = [weight.grad for weight in ready.model.parameters() if weight.grad is not None]
    return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def hooked(model: Any) -> bool:
    return any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("architecture", ["llama", "bert", "t5"])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_answers_keep_every_bit_and_gradients_their_direction(
    method: str, options: dict[str, Any], architecture: str, prepare: Callable[..., Any]
) -> None:
    ready = prepare(method, architecture, **options)
    torch.manual_seed(0)
    for weight in ready.model.parameters():  # an adapter that changes nothing yet would hide what it does
        if weight.requires_grad:
            weight.data.add_(torch.randn_like(weight) * 0.05)
    ready.model.eval()
    before = {name: (weight.data_ptr(), weight.detach().clone()) for name, weight in ready.model.named_parameters()}
    logits, gradient = answers(ready)
    with converted_once(ready.model, "bfloat16"):
        once, gradient_once = answers(ready)
        frozen = {weight.dtype for weight in ready.model.parameters() if not weight.requires_grad}
    assert torch.equal(logits, once)
    assert gradient.shape == gradient_once.shape and F.cosine_similarity(gradient, gradient_once, dim=0) > 0.999
    assert (torch.bfloat16 in frozen) == (method != "full")
    for name, weight in ready.model.named_parameters():
        assert weight.data_ptr() == before[name][0] and torch.equal(weight, before[name][1]), name
    assert not hooked(ready.model)


def test_float32_is_left_alone(prepare: Callable[..., Any]) -> None:
    model = prepare("lora", "llama").model
    with converted_once(model, "float32"):
        assert {weight.dtype for weight in model.parameters()} == {torch.float32} and not hooked(model)


def test_an_input_that_was_changed_in_place_is_converted_anew() -> None:
    class InPlace(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            given += self.first(given)
            out: torch.Tensor = self.second(given)
            return out

    model = InPlace().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(torch.ones(2, 4))
        with converted_once(model, "bfloat16"):
            assert torch.equal(model(torch.ones(2, 4)), expected)
