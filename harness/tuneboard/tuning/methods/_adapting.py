"""Puts a peft adapter on a base, with peft's complaints as one line."""

from __future__ import annotations

import warnings
from typing import Any

from tuneboard.errors import UsageError


def adapt(model: Any, config: Any, method: str) -> Any:
    """Return the base with a new, trainable adapter; the base's own weights are frozen.

    Args:
        model: The base; it is changed.
        config: A ``PeftConfig``.
        method: Named in the error.

    Raises:
        UsageError: The adapter does not fit the base.
    """
    import peft

    try:
        with warnings.catch_warnings():
            # Says that a second adapter is put on the same base, which cannot be here, and the like.
            warnings.simplefilter("ignore", UserWarning)
            return peft.get_peft_model(model, config)
    # peft's own word for options that a kind of adapter or layer lacks is NotImplementedError.
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UsageError(f"method {method} does not fit {type(model).__name__}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def adapter_config(model: Any) -> Any:
    """Return the ``PeftConfig`` of a model that ``adapt`` made."""
    return model.peft_config[model.active_adapter]
