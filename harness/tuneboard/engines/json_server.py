"""Asks a JSON server many times at once: keeps connections, waits where it is told to, asks again what may yet succeed.

What is asked again: connections that fail, answers that are no JSON, and the states 408, 409, 425, 429 and 500 to 504;
once more, what took too long. Waits double from half a second, drawn a little apart so that threads do not return
together; where the server names a time (``Retry-After``), every thread waits that long.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from tuneboard.engines.protocol import Notice
from tuneboard.errors import EngineError, MissingExtra, UsageError

#: Environment variables that may hold the key, in order.
KEYS = ("TUNEBOARD_API_KEY", "OPENAI_API_KEY")
_AGAIN = frozenset((408, 409, 425, 429, *range(500, 505)))
_CONNECT_S = 10.0
_FIRST_WAIT_S = 0.5
_LONGEST_OWN_WAIT_S = 30.0
#: A server that asks to wait longer is not waited for: its limit is one of hours or days.
_LONGEST_NAMED_WAIT_S = 600.0
_LONGEST_REASON = 240
#: Requests lost in a row, none answered between them, after which no more are sent.
_GONE = 8


class ServerError(EngineError):
    """The server refuses a request for good, or does not answer it.

    Args:
        message: What went wrong, in one line.
        status: HTTP status; None where there was no answer at all.
        hopeless: Whether every other request would fail alike.
    """

    def __init__(self, message: str, status: int | None = None, hopeless: bool = False) -> None:
        self.status, self.hopeless = status, hopeless
        super().__init__(message)


class _Again(Exception):
    """A request that may yet succeed."""

    def __init__(self, reason: str, status: int | None = None, named_s: float | None = None, most: int = 1000) -> None:
        self.reason, self.status = reason, status
        self.named_s = named_s
        """Seconds that the server asks to wait."""
        self.most = most
        """Times that it is worth sending."""
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How a server is asked."""

    concurrency: int = 16
    """Requests under way at a time."""
    timeout_s: float = 300.0
    """Seconds without a byte after which a request is given up."""
    tries: int = 6
    """Times that a request is sent at most."""


class JsonServer:
    """A server that takes and gives JSON; may be asked from many threads.

    The key comes from the environment, goes into the requests' headers and nowhere else: it is cut out of everything
    that the server says.

    Args:
        url: Base URL.
        options: How it is asked.
        notice: Told once of each kind of trouble; called from the thread that asks.

    Raises:
        MissingExtra: urllib3 is not installed.
        UsageError: The key has characters that no header can carry.
    """

    def __init__(self, url: str, options: HttpOptions, notice: Notice) -> None:
        self.url, self.options, self.notice = url, options, notice
        self.repeats = 0
        """Requests that were sent again."""
        self.closed = threading.Event()
        self._key = _key()
        self._pool = _pool(url, options)
        self._not_before = 0.0
        self._lost = 0
        self._told: set[str] = set()
        self._lock = threading.Lock()
        if self._key and url.startswith("http://") and not _is_local(url):
            notice(f"the key goes to {url} unencrypted; use https:// where others can listen")

    def get(self, path: str, tries: int | None = None) -> Any:
        """Return what stands at a path below the base URL, or below the server's root where it starts with ``//``.

        Raises:
            ServerError: It cannot be had.
        """
        return self._ask("GET", path, None, tries or self.options.tries)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON to a path as above and return the answer.

        Raises:
            ServerError: The request is refused, or not answered however often it was sent.
        """
        # ASCII: lone surrogates travel as escapes.
        return self._ask("POST", path, json.dumps(body).encode("ascii"), self.options.tries)

    def close(self) -> None:
        """Let go of connections and wake the threads that wait."""
        self.closed.set()
        self._pool.clear()

    def _ask(self, method: str, path: str, body: bytes | None, tries: int) -> Any:
        wait_s, sent = _FIRST_WAIT_S, 0
        while True:
            self._pause(self._not_before - time.monotonic())
            sent += 1
            try:
                answer = self._once(method, path, body)
            except _Again as trouble:
                if sent >= min(tries, trouble.most):
                    raise self._given_up(trouble, sent) from None
                pause = wait_s if trouble.named_s is None else trouble.named_s
                self._tell(trouble, pause)
                if trouble.named_s is not None:
                    self._not_before = max(self._not_before, time.monotonic() + pause)
                self._pause(pause * random.uniform(1.0, 1.25))
                wait_s = min(2 * wait_s, _LONGEST_OWN_WAIT_S)
            else:
                self._lost = 0
                return answer

    def _once(self, method: str, path: str, body: bytes | None) -> Any:
        import urllib3.exceptions as faults

        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = _root(self.url) + path[1:] if path.startswith("//") else self.url + path
        try:
            # A redirect is not followed: it would carry the key to another place.
            response = self._pool.request(method, url, body=body, headers=headers, redirect=False, retries=False)
            status, data = response.status, response.data
        except faults.ReadTimeoutError:
            raise _Again(f"{self.url} gives no answer within {self.options.timeout_s:g} s", most=2) from None
        except (faults.HTTPError, OSError) as error:
            reason = self._shown(str(error).rpartition(": ")[2]) or type(error).__name__
            raise _Again(f"{self.url} cannot be reached ({reason})") from None
        if not 200 <= status < 300:
            raise self._refusal(status, response.headers, data)
        try:
            return json.loads(data)
        except ValueError:
            raise _Again(f"{self.url} answers with what is no JSON: {self._shown(data)!r}", status) from None

    def _refusal(self, status: int, headers: Mapping[str, str], data: bytes) -> _Again | ServerError:
        """Return why the answer is none: what may be asked again, and what is refused for good."""
        said = self._shown(_message(data))
        reason = f"{self.url} answers {status}" + (f": {said}" if said else "")
        if status in (401, 403):
            hint = "the key there is not accepted" if self._key else "no key is given"
            return ServerError(f"{reason}; {hint}: set {KEYS[0]} to one that is", status, hopeless=True)
        if 300 <= status < 400:
            where = self._shown(headers.get("Location", "elsewhere"))
            return ServerError(f"{self.url} sends requests on to {where}; give that as --url", status, hopeless=True)
        named = _named_wait(headers)
        if status not in _AGAIN:
            return ServerError(reason, status)
        if named is not None and named > _LONGEST_NAMED_WAIT_S:
            line = f"{reason}; it asks to wait {named:,.0f} s: run the same command again then"
            return ServerError(line, status, hopeless=True)
        return _Again(reason, status, named)

    def _given_up(self, trouble: _Again, sent: int) -> ServerError:
        self._lost += 1
        # When as many in a row are lost as are under way at a time, the server is gone and not one request bad.
        gone = self._lost >= max(_GONE, self.options.concurrency)
        return ServerError(f"{trouble.reason}; asked {sent} times", trouble.status, hopeless=gone)

    def _shown(self, text: str | bytes) -> str:
        """Return what the server said in one short line, without the key."""
        line = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if self._key:
            line = line.replace(self._key, "***")
        line = " ".join(line.split())
        return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + "…"

    def _tell(self, trouble: _Again, wait_s: float) -> None:
        kind = f"{trouble.status}" if trouble.status is not None else trouble.reason
        with self._lock:
            self.repeats += 1
            new = kind not in self._told
            self._told.add(kind)
        if new:
            self.notice(f"{trouble.reason}; asking again in {wait_s:.1f} s, and whenever that happens")

    def _pause(self, seconds: float) -> None:
        if self.closed.wait(max(0.0, seconds)):
            raise ServerError("the engine was closed", hopeless=True)


def _key() -> str | None:
    for name in KEYS:
        if key := os.environ.get(name, "").strip():
            if not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(f"{name} holds characters that no key has; set it to the key alone")
            return key
    return None


def _pool(url: str, options: HttpOptions) -> Any:
    try:
        import urllib3
    except ImportError as error:
        raise MissingExtra("urllib3", "transformers") from error
    from urllib.request import getproxies, proxy_bypass

    settings: dict[str, Any] = {
        "maxsize": options.concurrency,
        "timeout": urllib3.Timeout(connect=min(_CONNECT_S, options.timeout_s), read=options.timeout_s),
    }
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or _is_local(url) or proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager(**settings)
    login = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _named_wait(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds, or a date."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _message(data: bytes) -> str | bytes:
    """Return what an error's body says: OpenAI's form, older vLLM's, or FastAPI's; else all of it."""
    try:
        found = json.loads(data)
    except ValueError:
        return data
    if isinstance(found, dict):
        inner = found.get("error", found)
        for name in ("message", "detail"):
            if isinstance(inner, dict) and isinstance(inner.get(name), str):
                return str(inner[name])
        if isinstance(inner, str):
            return inner
    return data
