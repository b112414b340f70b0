"""Models behind a server: what stands for weights that nobody here can hash.

A served model is identified by the server's URL, its name there, and what the server reports of it (the folder or hub
id of its weights, its base, its owner). A server that loads other weights under the same name and reports nothing of
it cannot be told from the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tuneboard.errors import UsageError
from tuneboard.records import AdapterRef, ModelRef, fingerprint

#: Stands for the data type, which a server does not tell; and so marks a ``ModelRef`` whose weights are elsewhere.
DTYPE = "served"
#: Kind of an adapter that is a model name on the server of its base.
KIND = "SERVED"
#: What a server reports of a model that lasts as long as its weights; vLLM's ``created`` is the time of asking.
_LASTING = ("id", "root", "parent", "owned_by")
_ENDPOINTS = ("/chat/completions", "/completions", "/models")


def server_url(text: str) -> str:
    """Return the base URL of an OpenAI-compatible server, with its ``/v1``.

    Args:
        text: As the user gave it; the URL of an endpoint is taken for that of its server.

    Raises:
        UsageError: It is none, or carries what could be a secret.
    """
    example = "such as http://localhost:8000/v1"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"--url is not a URL; expected one {example}") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"--url carries a user name, a password or a query, which would be stored; expected one {example}, and the "
            "key in TUNEBOARD_API_KEY"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"--url '{text}' given, expected a URL {example}")
    path = parts.path.rstrip("/")
    for end in _ENDPOINTS:
        path = path.removesuffix(end)
    place = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, place + (f":{port}" if port else ""), path or "/v1", "", ""))


def served_model(url: str, name: str, reported: Mapping[str, Any]) -> ModelRef:
    """Return what stands for a model on a server.

    Args:
        url: From ``server_url``.
        name: Of the model there.
        reported: The server's own entry for it; may be empty.
    """
    return ModelRef(id=f"{url}#{name}", dtype=DTYPE, sha256=_identity(url, name, reported))


def served_adapter(url: str, name: str, reported: Mapping[str, Any]) -> AdapterRef:
    """Return what stands for an adapter that is a model name on the server of its base; arguments as above."""
    return AdapterRef(path=name, sha256=_identity(url, name, reported), kind=KIND)


def is_served(ref: ModelRef) -> bool:
    """Tell whether a model's weights are behind a server."""
    return ref.dtype == DTYPE


def is_on_server(model_id: str) -> bool:
    """Tell the same by the id alone, as the database keeps it."""
    return "://" in model_id


def url_and_name(ref: ModelRef) -> tuple[str, str]:
    """Return the server's URL and the model's name there."""
    url, _, name = ref.id.partition("#")
    return url, name


def _identity(url: str, name: str, reported: Mapping[str, Any]) -> str:
    return fingerprint("served", url, name, {key: reported[key] for key in _LASTING if reported.get(key) is not None})


@dataclass(frozen=True, slots=True)
class ServedChat:
    """Stands in for a chat template where a server applies its own: chats are kept as they are, in JSON."""

    chat_template: str = "the server's own"
    """Part of a task's identity, as a template's text is."""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the messages as JSON; whether the last is to be continued shows in its role."""
        return json.dumps(chat_history, ensure_ascii=False)


def messages_of(context: str) -> list[dict[str, str]] | None:
    """Return the messages that ``ServedChat`` wrote; None for a plain text."""
    if not context.startswith('[{"role": '):
        return None
    try:
        found = json.loads(context)
    except ValueError:
        return None
    return found if all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in found) else None
