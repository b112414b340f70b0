import io
import os
import pty
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from tuneboard.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_lines_come_at_most_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("tuneboard.report.progress.time", SimpleNamespace(monotonic=lambda: now))
    stream = io.StringIO()
    with Progress(stream=stream, interval_s=5) as progress:
        progress.add("base", "mmlu", 1000)
        while now < 27:
            now += 1
            progress.advance("base", "mmlu", tokens=3)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5 + 1, "at 5, 10, 15, 20 and 25 seconds, and at the end"
    assert "now mmlu of base" in lines[0]
    assert "tokens/s" in lines[0]


def test_a_short_evaluation_leaves_one_line() -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.add("base", "mmlu", 4)
        progress.advance("base", "mmlu", 4)
        progress.done("base", "mmlu", "done")
    assert stream.getvalue() == "1 of 1 results, 4 of 4 requests in 0 s\n"


def test_quiet_writes_nothing() -> None:
    stream = Terminal()
    with Progress(quiet=True, stream=stream, interval_s=0) as progress:
        progress.add("base", "mmlu", 4)
        progress.advance("base", "mmlu", 4)
        progress.note("halved the batch")
        progress.done("base", "mmlu", "done")
    assert stream.getvalue() == ""


def test_only_pairs_at_work_are_shown_and_all_are_counted() -> None:
    progress = Progress(quiet=True)
    for index in range(342):
        progress.add("base", f"task{index:03}", 10)
    for index in range(300):
        progress.advance("base", f"task{index:03}", 10, tokens=100)
        progress.done("base", f"task{index:03}", "done")
    for index in range(300, 330):
        progress.advance("base", f"task{index:03}", 5)
    lines = progress.lines(most_rows=4)
    assert len(lines) == 2 + 4 + 2
    assert [line.split()[0] for line in lines[2:6]] == ["task326", "task327", "task328", "task329"]
    assert "5/10" in lines[2]
    assert lines[6] == "... and 26 more at work"
    assert lines[7].startswith("300 of 342 results, 3,150 of 3,420 requests")


def test_a_reused_result_needs_no_requests() -> None:
    progress = Progress(quiet=True)
    progress.add("base", "mmlu", 10)
    progress.done("base", "mmlu", "reused")
    assert progress.lines()[-1].startswith("1 of 1 results, 0 of 0 requests")
    assert "left" not in progress.lines()[-1]


def test_the_time_left_follows_the_pace() -> None:
    progress = Progress(quiet=True)
    with progress:
        progress.add("base", "mmlu", 400)
        time.sleep(0.1)
        progress.advance("base", "mmlu", 1)
        left = progress.lines()[-1].rpartition("about ")[2]
    assert 35 <= int(left.split()[0]) <= 80


def test_counting_costs_about_a_microsecond() -> None:
    with Progress(stream=io.StringIO()) as progress:
        progress.add("base", "mmlu", 50_000)
        started = time.process_time()
        for _ in range(50_000):
            progress.advance("base", "mmlu", tokens=10)
        seconds = time.process_time() - started
    # 50,000 requests take minutes, so that even a second would be little; about 0.03 s is usual.
    assert seconds < 0.5


def test_a_closed_stderr_does_not_end_an_evaluation() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    with Progress(stream=stream, interval_s=0) as progress:
        progress.add("base", "mmlu", 4)
        progress.advance("base", "mmlu", 2)
        progress.advance("base", "mmlu", 2)
        progress.note("still here")


def test_pairs_may_be_added_while_the_display_is_drawn() -> None:
    progress = Progress(quiet=True)
    stop = threading.Event()
    failures: list[BaseException] = []

    def draw() -> None:
        try:
            while not stop.is_set():
                progress.lines()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    for index in range(3000):
        progress.add("base", f"task{index}", 1)
        progress.advance("base", f"task{index}")
        progress.done("base", f"task{index}", "done")
    stop.set()
    thread.join()
    assert not failures


PROGRAM = """
import time
from tuneboard.report.progress import Progress
with Progress() as progress:
    progress.add("base", "mmlu", 10)
    progress.advance("base", "mmlu", 5, tokens=70)
    time.sleep(0.8)
    progress.note("halved the batch [to 512]")
    progress.done("base", "mmlu", "done")
"""


def test_a_terminal_shows_a_live_display_and_keeps_notes() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:
        # Linux answers with EIO when the last writer has closed its end.
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    shown = text.decode()
    assert "5/10" in shown
    assert "halved the batch [to 512]" in shown
    assert shown.rstrip().endswith(" s")


def test_answers_of_earlier_runs_are_counted_and_tell_nothing_of_the_pace() -> None:
    with Progress(quiet=True) as progress:
        progress.add("base", "mmlu", 400, known=300)
        time.sleep(0.02)
        assert progress.lines()[-1] == "0 of 1 results, 300 of 400 requests"
        assert progress.begun
        progress.advance("base", "mmlu", 1)
        assert "about" in progress.lines()[-1]
        assert "301 of 400 requests" in progress.totals()


def test_nothing_is_said_of_the_pace_before_the_first_answer() -> None:
    with Progress(quiet=True) as progress:
        assert not progress.begun
        progress.add("base", "mmlu", 400)
        assert progress.lines()[-1] == "0 of 1 results, 0 of 400 requests"


def test_loading_a_model_is_no_part_of_the_pace() -> None:
    with Progress(quiet=True) as progress:
        progress.add("base", "mmlu", 101)
        time.sleep(0.4)
        progress.ready()
        time.sleep(0.1)
        progress.advance("base", "mmlu", 1)
        left = progress.lines()[-1].rpartition("about ")[2]
    assert 9 <= int(left.split()[0]) <= 30


def test_a_line_at_the_first_answer_of_the_first_batch_tells_no_time_left() -> None:
    stream = io.StringIO()
    with Progress(stream=stream, interval_s=0.02) as progress:
        progress.add("base", "mmlu", 400)
        for _ in range(2):
            time.sleep(0.04)
            for _ in range(8):
                progress.advance("base", "mmlu", tokens=5)
    first, second = stream.getvalue().splitlines()[:2]
    assert "1 of 400" in first and "tokens/s" in first and "left" not in first
    assert "9 of 400" in second and "left" in second
