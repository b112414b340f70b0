"""What the pages read: the database or the newest published snapshot, cached as long as the file stays the same."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from parts.words import literal
from tuneboard.errors import StoreBusy, StoreError, UnknownName
from tuneboard.store import listing
from tuneboard.store.database import kept_open
from tuneboard.store.locking import database_lock
from tuneboard.store.snapshots import DATABASE_VARIABLE, SNAPSHOT_VARIABLE, current_snapshot

Result = TypeVar("Result")

#: Results that are kept of each function, and the bytes that they may take together (pickled).
_MOST_RESULTS, _MOST_BYTES = 64, 32 * 2**20
#: Seconds that a page waits for a writer; a commit of 14,042 samples holds the lock for about one.
_WAIT_S = 2.0
_NOTES = "site_notes"
_BEFORE = "The database is being written: these are the results from before."

#: Function and arguments to the stamp under which they succeeded last.
_succeeded: dict[Hashable, Hashable] = {}
#: Whether the database is being read for a result that will be kept.
_reading: ContextVar[bool] = ContextVar("reading", default=False)


def database() -> Path:
    """Return the file that is shown; it need not be there."""
    folder = os.environ.get(SNAPSHOT_VARIABLE)
    if folder:
        return current_snapshot(Path(folder)) or Path(folder) / "nothing-published.duckdb"
    return Path(os.environ.get(DATABASE_VARIABLE) or "results/tuneboard.duckdb")


def stamp(db: Path) -> Hashable:
    """Return what changes whenever a database file does; None where there is none."""
    try:
        return tuple((status.st_mtime_ns, status.st_size) for status in _files(db)) or None
    except OSError:
        return None


def cached(function: Callable[..., Result]) -> Callable[..., Result]:
    """Keep the results of a function that reads the database, as long as the file stays the same.

    While a writer holds the database, the last result is given and a quiet note says so. What cannot be read at all
    ends the page with the reason. Such a function may ask another: both then read through one connection, and trouble
    is the outer one's.

    Args:
        function: ``function(db: Path, *hashable) -> result``; the result can be pickled.
    """

    def read(path: str, seen: Hashable, *arguments: Hashable) -> Result:
        before = _reading.set(True)
        try:
            with kept_open(Path(path)):
                return function(Path(path), *arguments)
        finally:
            _reading.reset(before)

    # Streamlit tells functions apart by module, name and source, and all of these have the same source.
    code = function.__code__
    read.__qualname__ = f"{function.__module__}.{function.__qualname__} of {code.co_filename} {hash(code)}"
    kept = st.cache_data(max_entries=_MOST_RESULTS, max_size=_MOST_BYTES, show_spinner=False)(read)

    @functools.wraps(function)
    def answer(db: Path, *arguments: Hashable) -> Result:
        key = (read.__qualname__, str(db), arguments)
        seen = stamp(db)
        if _reading.get():
            # Streamlit keeps what is shown meanwhile with the result, and a note's place is gone by the next run. A
            # writer who waits for the outer one would keep this one waiting in turn.
            return kept(str(db), seen, *arguments)
        try:
            if _succeeded.get(key) != seen:
                # Looked at first: the queries themselves wait for a minute.
                with database_lock(db, "read", 0 if _busy() else _WAIT_S):
                    pass
            result = kept(str(db), seen, *arguments)
        except StoreBusy:
            if key not in _succeeded:
                _stop("The database is being written. The page comes back by itself.", "info")
            note(_BEFORE)
            return kept(str(db), _succeeded[key], *arguments)
        except (StoreError, UnknownName) as error:
            _stop(literal(str(error), 600), "error")
        _remember(key, seen)
        return result

    return answer


def note(text: str) -> None:
    """Show one quiet line at the top of the page, once a run.

    Args:
        text: Markdown.
    """
    place, shown = st.session_state.get(_NOTES) or (st.container(), set())
    if text not in shown:
        shown.add(text)
        place.caption(text)


def begin() -> None:
    """Begin a run of the site: keeps the place of its notes, and looks now and then whether there is anything new."""
    st.session_state[_NOTES] = (st.container(), set())
    _refresh(str(database()), stamp(database()))


def require_data() -> None:
    """Show how to fill the database where it is empty, and end the page."""
    db = database()
    if stamp(db) is not None and cached(listing.is_filled)(db):
        return
    _show_how_to_fill(db)
    st.stop()


@st.fragment(run_every="10s")
def _refresh(db: str, seen: Hashable) -> None:
    if (str(database()), stamp(database())) != (db, seen):
        st.rerun(scope="app")


def _show_how_to_fill(db: Path) -> None:
    if folder := os.environ.get(SNAPSHOT_VARIABLE):
        st.title("Nothing is published here yet")
        st.text("Publish a snapshot of a database; the site shows it by itself.")
        st.code(f"tuneboard publish --to {shlex.quote(folder)}", language="bash", wrap_lines=True)
        return
    file = shlex.quote(str(db))
    st.title("Nothing is evaluated yet")
    st.text("Make a small base model, fine-tune it and evaluate both, on any machine:")
    st.code(f"tuneboard demo --db {file}", language="bash", wrap_lines=True)
    st.text("Or evaluate a model of your own and its adapters:")
    st.code(
        f"tuneboard evaluate --model MODEL --adapter mine=ADAPTER_FOLDER --suite quick --db {file}",
        language="bash",
        wrap_lines=True,
    )
    st.caption("The page fills itself as soon as the first results are there.")


def _files(db: Path) -> list[os.stat_result]:
    # What a killed writer left in the log belongs to the database too.
    log = db.with_name(db.name + ".wal")
    return [db.stat(), *([log.stat()] if log.exists() else [])]


def _busy() -> bool:
    """Tell whether a writer kept an earlier query of this page waiting already."""
    return _BEFORE in (st.session_state.get(_NOTES) or (None, set()))[1]


def _remember(key: Hashable, seen: Hashable) -> None:
    _succeeded.pop(key, None)
    _succeeded[key] = seen
    while len(_succeeded) > 10 * _MOST_RESULTS:
        del _succeeded[next(iter(_succeeded))]


def _stop(text: str, kind: str) -> Any:
    (st.error if kind == "error" else st.info)(text)
    st.stop()
