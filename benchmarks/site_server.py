"""The real site in a process of its own, and visitors that ask it for pages without a browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

START_S = 60.0
#: Of the leaderboard first, which stands at the site's root.
PAGES = ("leaderboard", "compare", "samples", "reports", "model", "subjects", "gates", "efficiency", "radar")


@dataclass(frozen=True)
class Site:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def address(self, page: str, query: Mapping[str, Any] | None = None) -> str:
        """The URL of a page with a selection."""
        path = "" if page == PAGES[0] else page
        return f"{self.url}/{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")

    def cpu_s(self) -> float:
        """Seconds of processor time that the server has used; two threads at once count twice."""
        import psutil

        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def peak_memory_gib(self) -> float:
        """The most memory that the server held at any time, from the kernel's own account."""
        import psutil

        server = psutil.Process(self.process.pid)
        return sum(_peak_kib(one.pid) for one in [server, *server.children(recursive=True)]) / 2**20


@contextmanager
def running_site(db: Path, log: Path, *arguments: str) -> Iterator[Site]:
    """Start ``tuneboard leaderboard`` on a database, on a free port, and stop it in the end.

    Args:
        db: The database file.
        log: Where the server's output goes.
        *arguments: Further ones of the command.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tuneboard", "leaderboard", "--db", str(db), "--port", str(port), *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"CI": "true"})
        try:
            site = Site(f"http://127.0.0.1:{port}", process)
            _wait(site, log)
            yield site
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Visitor:
    """One visitor's session: asks for pages as a browser does, and takes in all that the server sends.

    Args:
        site: Whom to visit.
    """

    def __init__(self, site: Site) -> None:
        from websockets.sync.client import connect

        address = site.url.replace("http", "ws", 1) + "/_stcore/stream"
        self._socket = connect(address, subprotocols=["streamlit"], max_size=None)  # type: ignore[list-item]

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def load(self, page: str, query: Mapping[str, str | Sequence[str]] | None = None) -> tuple[float, int, list[str]]:
        """Ask for a page.

        Returns:
            Seconds until all of it was there, bytes that came, and the exceptions and errors that it shows.
        """
        from streamlit.proto.Alert_pb2 import Alert
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        ask = BackMsg()
        ask.rerun_script.page_name = "" if page == PAGES[0] else page
        ask.rerun_script.query_string = urlencode(query or {}, doseq=True)
        begun, size, errors = time.perf_counter(), 0, []
        self._socket.send(ask.SerializeToString())
        while True:
            received = self._socket.recv(timeout=300)
            size += len(received)
            message = ForwardMsg.FromString(received)  # type: ignore[arg-type]
            kind = message.WhichOneof("type")
            element = message.delta.new_element
            shown = element.WhichOneof("type") if kind == "delta" else None
            if shown == "exception":
                errors.append(f"{element.exception.type}: {element.exception.message}")
            elif shown == "alert" and element.alert.format == Alert.ERROR:
                errors.append(element.alert.body)
            # Finished early means that the page runs again at once.
            if kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                return time.perf_counter() - begun, size, errors


def _wait(site: Site, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if site.process.poll() is not None:
            raise RuntimeError(f"the site ended with {site.process.returncode}: {log.read_text(errors='replace')}")
        try:
            with urllib.request.urlopen(f"{site.url}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the site did not answer within {START_S:g} s: {log.read_text(errors='replace')}")


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
