"""Whether the context of a model has room for what tasks may write."""

from __future__ import annotations

from collections.abc import Iterable

from tuneboard.errors import UsageError
from tuneboard.evaluate.recording import RecordedTask


def check_new_tokens(model: str, max_length: int, tasks: Iterable[RecordedTask]) -> None:
    """Refuse a task that may write as many tokens as a causal model's context holds, prompt included, as lm-eval does.

    Args:
        model: Named in the error.
        max_length: Context length in tokens.
        tasks: With their requests.

    Raises:
        UsageError: Naming the first such task.
    """
    from tuneboard.engines.sampling import new_tokens

    for one in tasks:
        generations = (ask.arguments[1] for ask in one.asks.values() if ask.kind == "generate_until")
        longest = max((new_tokens(settings) for settings in generations), default=0)
        if longest >= max_length:
            raise UsageError(
                f"task '{one.ref.name}' may write {longest} tokens (max_gen_toks), but the context of {model} holds "
                f"{max_length} with the prompt; lower it with --gen-kwargs max_gen_toks=N, or in a suite under "
                "generation, or leave the task out"
            )
