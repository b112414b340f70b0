"""Live progress on stderr: a display that redraws itself in a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from tuneboard.records import CellStatus
from tuneboard.report.tables import format_table, harmless

if TYPE_CHECKING:
    from rich.live import Live

#: Rows of the live display; with hundreds of candidate and task pairs only those at work are worth a line.
_MOST_ROWS = 12
#: The rate is that of about this many seconds, so that it follows the task at work.
_RATE_WINDOW_S = 30.0


@dataclass(slots=True)
class _Pair:
    """One candidate on one task."""

    candidate: str
    task: str
    total: int = 0
    count: int = 0
    tokens: int = 0
    touched: int = 0
    """Number of the last update; 0 before the first."""
    status: CellStatus | None = None


class Progress:
    """Shows how far an evaluation is; use it as a context manager.

    Nothing is drawn from ``advance``, which only counts (about 1 µs): a terminal is redrawn twice a second by a thread
    of rich, and without a terminal a line is written when ``interval_s`` has passed.

    Args:
        quiet: Show nothing at all, notes included.
        stream: Where to write; None is stderr.
        interval_s: Least seconds between two plain lines.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, interval_s: float = 5.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._interval_s = interval_s
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._updates = 0
        self._count = 0
        self._answered = 0
        """Requests that were answered here; ``_count`` holds those of earlier runs too."""
        self._tokens = 0
        self._started = self._next_line = time.monotonic()
        self._history: deque[tuple[float, int, int]] = deque()
        self._measured = False
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._next_line = self._started + self._interval_s
        self.ready()
        if not self._quiet and self._stream.isatty():
            self._live = self._start_live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if not self._quiet and self._pairs and kind is None:
            self._write(f"{self.totals()} in {_duration(time.monotonic() - self._started)}")

    def add(self, candidate: str, task: str, total: int, known: int = 0) -> None:
        """Announce a candidate's work on a task.

        Args:
            candidate: Name of the candidate.
            task: Name of the task.
            total: Requests that ``advance`` will count, and those ``known``; a second call for a pair corrects it.
            known: Requests that were answered before; they tell nothing of the pace.
        """
        pair = self._pairs.setdefault((candidate, task), _Pair(candidate, task))
        pair.total = total
        pair.count += known
        self._count += known

    def ready(self) -> None:
        """Start the clock of the pace: what comes before, such as loading a model, is no part of it."""
        self._history = deque([(time.monotonic(), self._answered, self._tokens)])
        self._measured = False

    def advance(self, candidate: str, task: str, n: int = 1, tokens: int = 0) -> None:
        """Count answered requests.

        Args:
            candidate: Name of the candidate.
            task: Name of the task.
            n: Requests answered since the last call.
            tokens: Tokens that were computed for them.
        """
        pair = self._pairs.get((candidate, task))
        if pair is None:
            pair = self._pairs[candidate, task] = _Pair(candidate, task)
        self._updates += 1
        pair.touched = self._updates
        pair.count += n
        pair.tokens += tokens
        self._count += n
        self._answered += n
        self._tokens += tokens
        if self._live is None and time.monotonic() >= self._next_line:
            self._plain_line()

    def done(self, candidate: str, task: str, status: CellStatus) -> None:
        """Mark a candidate's work on a task as finished."""
        self._pairs.setdefault((candidate, task), _Pair(candidate, task)).status = status
        if self._live is None and time.monotonic() >= self._next_line:
            self._plain_line()

    def note(self, line: str) -> None:
        """Write a line that stays, such as "halved the batch to 512 tokens"."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)
        else:
            self._write(line)

    def lines(self, most_rows: int = _MOST_ROWS) -> list[str]:
        """Return the display as text: the pairs at work, then a line of totals.

        Args:
            most_rows: Pairs to show at most; those that moved last win.
        """
        at_work = [pair for pair in self._pairs.copy().values() if pair.touched and pair.status is None]
        shown = sorted(at_work, key=lambda pair: pair.touched)[-most_rows:]
        shown.sort(key=lambda pair: (pair.task, pair.candidate))
        rows = [(pair.task, pair.candidate, _share(pair), _bar(pair), _thousands(pair.tokens)) for pair in shown]
        table = (
            format_table(("task", "candidate", "answered", "", "tokens"), rows, "llrlr").splitlines() if rows else []
        )
        more = [f"... and {len(at_work) - len(shown)} more at work"] if len(at_work) > len(shown) else []
        return [*table, *more, self.totals() + self._pace()]

    def _start_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        def render() -> Text:
            # One row less than the terminal has for header, rule, "more", totals and the cursor.
            room = max(1, min(_MOST_ROWS, shutil.get_terminal_size().lines - 6))
            return Text("\n".join(self.lines(room)), no_wrap=True, overflow="ellipsis")

        console = Console(file=self._stream)
        live = Live(get_renderable=render, console=console, refresh_per_second=2, transient=True, redirect_stdout=False)
        live.start()
        return live

    def _plain_line(self) -> None:
        self._next_line = time.monotonic() + self._interval_s
        if self._quiet:
            return
        newest = max(self._pairs.values(), key=lambda pair: pair.touched)
        at_work = f"; now {newest.task} of {newest.candidate}" if newest.touched and newest.status is None else ""
        # This comes with the first answer of a batch, whose others follow at once: the time left, told from the first
        # batch, would be many times too long.
        self._write(self.totals() + self._pace(estimate=self._measured) + at_work)

    @property
    def begun(self) -> bool:
        """Whether anything was answered, or reused."""
        return bool(self._count) or any(pair.status is not None for pair in self._pairs.values())

    def totals(self) -> str:
        """Return how many results and requests there are of how many."""
        # A copy, since the drawing thread comes here while the evaluation adds pairs.
        pairs = self._pairs.copy().values()
        finished = sum(pair.status is not None for pair in pairs)
        total = sum(pair.count if pair.status else max(pair.total, pair.count) for pair in pairs)
        return f"{finished} of {len(pairs)} results, {self._count:,} of {total:,} requests"

    def _pace(self, estimate: bool = True) -> str:
        """Return tokens a second over the last half minute and the time left at that pace; nothing before an answer."""
        now, history = time.monotonic(), self._history
        history.append((now, self._answered, self._tokens))
        while len(history) > 2 and now - history[1][0] > _RATE_WINDOW_S:
            history.popleft()
        since, before, tokens = history[0]
        answered, seconds = self._answered - before, max(now - since, 1e-9)
        if not answered:
            return ""
        self._measured = True
        left = sum(max(0, pair.total - pair.count) for pair in self._pairs.copy().values() if pair.status is None)
        text = f", {_thousands((self._tokens - tokens) / seconds)} tokens/s"
        if left and estimate:
            text += f", about {_duration(left * seconds / answered)} left"
        return text

    def _write(self, line: str) -> None:
        # A closed or full stderr must not end an evaluation that can still save its results.
        try:
            self._stream.write(f"{harmless(line)}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._quiet = True


def _share(pair: _Pair) -> str:
    return f"{pair.count:,}/{pair.total:,}" if pair.total else f"{pair.count:,}"


def _bar(pair: _Pair, width: int = 20) -> str:
    filled = min(width, width * pair.count // pair.total) if pair.total else 0
    return "━" * filled + "╌" * (width - filled)


def _thousands(number: float) -> str:
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.1f}k" if number >= 1e4 else f"{number:.0f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
