"""Turns lists of messages, as the hub's and ShareGPT's data hold them, into ``(role, content)`` pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuneboard.errors import DataError
from tuneboard.tuning.data.templates import Lookup

#: Role as data sets write it to role as chat templates know it.
ROLES = {
    **{role: role for role in ("system", "user", "assistant", "tool")},
    **{"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "function": "tool"},
}


def read_messages(row: Lookup) -> tuple[tuple[str, str], ...]:
    """Return a chat as ``(role, content)`` pairs.

    Args:
        row: Its field ``messages`` holds a list of ``{role, content}`` or ``{from, value}``, or that list as JSON.

    Raises:
        DataError: It holds something else, an unknown role, content that is no text, or no assistant.
    """
    turns = row.value("messages")
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except ValueError as error:
            raise DataError(f"{row.place}: its messages are text and not JSON; expected a list of messages") from error
    if turns is None:
        return ()
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{row.place}: expected messages as a list of {{role, content}} or of {{from, value}}")
    messages = tuple(_message(turn, row) for turn in turns)
    if messages and all(role != "assistant" for role, _ in messages):
        raise DataError(f"{row.place}: no message is the assistant's, so there is nothing to learn; take the row out")
    return messages


def _message(turn: Mapping[str, Any], row: Lookup) -> tuple[str, str]:
    name = turn.get("role") or turn.get("from")
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{row.place}: a message has the role '{name}'; expected one of {', '.join(ROLES)}")
    if "content" not in turn and "value" not in turn:
        raise DataError(f"{row.place}: a message has {', '.join(turn)}; expected role and content, or from and value")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if len(texts) < len(content):
            raise DataError(f"{row.place}: a message holds parts that are no text; expected text alone")
        content = "".join(texts)
    return role, row.as_text(content, "content")
