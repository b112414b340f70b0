"""Whether the context of a model has room for what tasks may write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tuneboard.errors import UsageError
from tuneboard.evaluate.recording import RecordedTask


def room_notes(model: str, max_length: int, tasks: Iterable[RecordedTask]) -> Iterator[str]:
    """Name the tasks that may write as many tokens as a causal model's context holds, where lm-eval gives up.

    Args:
        model: Named in the notes.
        max_length: Context length in tokens.
        tasks: With their requests.

    Raises:
        UsageError: The context has no room for a prompt and a new token.
    """
    from tuneboard.engines.sampling import new_tokens

    for one in tasks:
        generations = (ask.arguments[1] for ask in one.asks.values() if ask.kind == "generate_until")
        longest = max((new_tokens(settings) for settings in generations), default=0)
        if longest and max_length < 2:
            raise UsageError(
                f"task '{one.ref.name}' writes texts, and the context of {model} is to hold {max_length} token: no "
                "prompt and new token fit; give a larger --max-length, or leave the task out"
            )
        if longest >= max_length:
            yield (
                f"{one.ref.name} may write {longest} tokens, but the context of {model} holds {max_length} with the "
                f"prompt: prompts keep at most their last {max_length // 2} tokens, and the answer gets the rest; "
                "--gen-kwargs max_gen_toks=N divides it otherwise"
            )
