"""While ``evaluate`` writes into the database, its pages show no error."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EVALUATE = Path(__file__).parents[1] / "evaluate"
LOADS = 20
PAGES = ("leaderboard", "compare", "samples", "model", "efficiency")

#: Evaluates one new adapter after the other with the fake engine, which computes nothing: most of its time goes into
#: the database.
_WRITE = """
import sys
import time
from itertools import count
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import toy_world
import tuneboard.cli.evaluate
import tuneboard.suites.index
from tuneboard.cli.main import main
from tuneboard.engines.fake import Behaviour, FakeEngine
tuneboard.suites.index._lm_eval_tasks = lambda: None
fake = Behaviour(toy_world.texts())
tuneboard.cli.evaluate._engine_factory = lambda args: lambda ref, notice: FakeEngine(ref, fake)
folder, db = Path(sys.argv[2]), sys.argv[3]
toy_world.make_model(folder / "model")
for number in count():
    toy_world.make_adapter(folder / f"a{number}", f"weights {number}")
    code = main(["evaluate", "--model", str(folder / "model"), "--adapter", f"a{number}={folder / f'a{number}'}",
                 "--tasks", "toy_sums,toy_legs,toy_colours", "--include-path", str(toy_world.TASKS),
                 "--db", db, "--quiet"])
    assert code == 0, code
    print(number, flush=True)
    time.sleep(0.2)
"""


@contextmanager
def evaluating(folder: Path, db: Path) -> Iterator[subprocess.Popen[str]]:
    """Evaluations go on in another process until the block is left; the first is finished before it is entered."""
    command = [sys.executable, "-c", _WRITE, str(EVALUATE), str(folder), str(db)]
    with (folder / "evaluate.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline(), (folder / "evaluate.log").read_text()
        yield process
        assert process.poll() is None, (folder / "evaluate.log").read_text()
    finally:
        process.kill()
        process.communicate()


def runs(db: Path) -> int:
    """Runs in the database."""
    from tuneboard.store import queries

    return len(queries.runs(db))


def test_twenty_page_loads_while_evaluate_writes_show_no_error(serve: Any, visitor: Any, tmp_path: Path) -> None:
    db = tmp_path / "r.duckdb"
    with evaluating(tmp_path, db), serve(db) as site:
        before = runs(db)
        for number in range(LOADS):
            with visitor(site) as one:
                _, size, errors = one.load(PAGES[number % len(PAGES)])
            assert errors == []
            assert size > 1_000
        assert runs(db) > before


@pytest.mark.accept
def test_a_browser_sees_new_results_by_themselves_and_no_error(serve: Any, tab: Any, tmp_path: Path) -> None:
    db = tmp_path / "r.duckdb"
    with evaluating(tmp_path, db), serve(db) as site:
        here = tab(site)
        for number in range(LOADS):
            here.open(PAGES[number % len(PAGES)])
        here.open("leaderboard")
        deadline = time.monotonic() + 60
        counted = here.text().split(" candidates")[0]
        while here.text().split(" candidates")[0] == counted:
            assert time.monotonic() < deadline
            here.page.wait_for_timeout(500)
        here.settle()
