"""What the pages share: words, state, and data that is read while others write."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tuneboard.bundled import app_dir
from tuneboard.errors import StoreBusy
from tuneboard.store.locking import database_lock
from tuneboard.store.snapshots import DATABASE_VARIABLE


def test_text_that_would_steer_a_display_is_shown_as_escapes() -> None:
    from parts.words import harmless

    assert harmless("\x1b[31mred\x1b[0m\x07\x00") == r"\x1b[31mred\x1b[0m\x07\x00"
    assert harmless("a\ud800b\u202ec\u200bd\u2028e") == r"a\ud800b\u202ec\u200bd\u2028e"
    assert harmless("two\r\nlines\tand a family 👨\u200d👩") == "two\nlines\tand a family 👨\u200d👩"
    assert harmless("<script>") == "<script>"
    harmless("x\ud800").encode("utf-8")


def test_long_text_is_cut_with_a_note() -> None:
    from parts.words import harmless

    shown = harmless("x" * 5_000_000, limit=100)
    assert shown.startswith("x" * 100 + "\n") and "100 of 5,000,000 characters" in shown and len(shown) < 200


def test_names_mean_nothing_to_markdown() -> None:
    from markdown_it import MarkdownIt
    from parts.words import literal

    text = "**b** [x](javascript:alert(1)) ![i](u) <b>h</b> `c` $m$ :red[r] # a_b_"
    rendered = MarkdownIt().renderInline(literal(text))
    assert not any(tag in rendered for tag in ("<strong>", "<a", "<img", "<b>", "<code>", "<em>"))
    assert "\n" not in literal("two\nlines")


def test_numbers_are_written_alike() -> None:
    from parts.words import interval, score, signed

    assert (score(0.5), score(None), score(-1.25)) == ("0.5000", "–", "−1.2500")
    assert (signed(0.01), signed(-0.01)) == ("+0.0100", "−0.0100")
    assert interval(0.1, 0.2) == "[0.1000, 0.2000]" and interval(None, 0.2) == "–"


def _widgets() -> None:
    import streamlit as st
    from parts import state

    st.json(
        {
            "one": state.pick("One", "one", ["a", "b"], "b"),
            "many": state.pick_many("Many", "many", ["x", "y", "z"], ["x"]),
            "text": state.pick_text("Text", "text"),
            "flag": state.pick_flag("Flag", "flag"),
            "day": str(state.pick_date("Day", "day")),
        }
    )


def _chosen(test: AppTest) -> dict[str, object]:
    import json

    return dict(json.loads(test.json[0].value))


def test_every_widget_takes_its_value_from_the_url_and_writes_it_back() -> None:
    test = AppTest.from_function(_widgets).run()
    assert _chosen(test) == {"one": "b", "many": ["x"], "text": "", "flag": False, "day": "None"}
    test.selectbox(key="one").select("a")
    test.multiselect(key="many").set_value(["z", "y"])
    test.text_input(key="text").set_value("long & odd=")
    test.toggle(key="flag").set_value(True)
    test.run()
    chosen = {"one": "a", "many": ["z", "y"], "text": "long & odd=", "flag": True, "day": "None"}
    assert _chosen(test) == chosen
    written = dict(test.query_params)
    assert written == {"one": "a", "many": ["z", "y"], "text": "long & odd=", "flag": "1"}
    again = AppTest.from_function(_widgets)
    again.query_params.update(written)
    assert _chosen(again.run()) == chosen


def test_a_choice_of_nothing_is_no_default_and_defaults_leave_the_url() -> None:
    test = AppTest.from_function(_widgets).run()
    test.multiselect(key="many").set_value([]).run()
    assert _chosen(test)["many"] == [] and test.query_params == {"many": ""}
    test.multiselect(key="many").set_value(["x"]).run()
    assert test.query_params == {}


def test_links_carry_the_selection() -> None:
    from parts.state import link

    assert (
        link("compare", base="a b", candidate=["x", "y&z"], task=None)
        == "./compare?base=a+b&candidate=x&candidate=y%26z"
    )
    assert link("leaderboard") == "./"


def test_a_page_answers_while_a_writer_holds_the_database(app: object, small_db: Path) -> None:
    test = app("leaderboard", small_db)  # type: ignore[operator]
    before = test.dataframe[0].value
    small_db.touch()  # what was kept no longer counts
    with database_lock(small_db, "write", 1):
        test.run()
    assert not test.exception
    assert list(test.dataframe[0].value["Candidate"]) == list(before["Candidate"])
    assert any("being written" in caption.value for caption in test.caption)


def _one_result_made_of_another() -> None:
    import streamlit as st
    from parts import data

    def inner(db: object) -> str:
        return "inner"

    def outer(db: object) -> str:
        if "meanwhile" in st.session_state:
            st.session_state.meanwhile()
        return f"outer and {data.cached(inner)(db)}"

    data.begin()
    st.text(data.cached(outer)(data.database()))


def test_a_writer_who_waits_for_one_result_disturbs_none_that_it_is_made_of(
    empty_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, str(empty_db))
    writers: list[threading.Thread] = []

    def write() -> None:
        with database_lock(empty_db, "write", 30):
            pass

    def a_writer_waits() -> None:
        writers.append(threading.Thread(target=write))
        writers[-1].start()
        with pytest.raises(StoreBusy):
            while True:
                with database_lock(empty_db, "read", 0):
                    pass

    page = AppTest.from_function(_one_result_made_of_another, default_timeout=30).run()
    empty_db.touch()  # what was kept no longer counts
    page.session_state["meanwhile"] = a_writer_waits
    for _ in range(2):
        page.run()
        assert not page.exception
        assert [text.value for text in page.text] == ["outer and inner"]
        assert not page.caption
    (writer,) = writers
    writer.join(30)


def test_a_damaged_database_is_one_clear_line(app: object, tmp_path: Path) -> None:
    db = tmp_path / "broken.duckdb"
    db.write_bytes(b"no database" * 100)
    test = app("leaderboard", db)  # type: ignore[operator]
    (error,) = test.error
    assert "is not a DuckDB database" in error.value.replace("\\", "")


@pytest.fixture
def modules() -> Iterator[set[str]]:
    program = f"""
import json, os, runpy, sys
sys.path.insert(0, {str(app_dir())!r})
import importlib, pathlib
for path in pathlib.Path({str(app_dir())!r}, "parts").glob("*.py"):
    importlib.import_module("parts" if path.stem == "__init__" else f"parts.{{path.stem}}")
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    import json

    yield set(json.loads(done.stdout.splitlines()[-1]))


def test_the_site_loads_no_machine_learning(modules: set[str]) -> None:
    assert not modules & {"torch", "transformers", "lm_eval", "vllm", "peft", "datasets"}


def test_no_page_names_what_it_must_not_load() -> None:
    import ast

    allowed = {"store", "compare", "records", "stats", "errors", "bundled", "headline", "config", "report", "gates"}
    for path in app_dir().rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                # ``from tuneboard import stats`` names its module among the aliases.
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                top, _, rest = name.partition(".")
                assert top not in {"torch", "transformers", "lm_eval", "vllm", "peft"}, path
                assert top != "tuneboard" or rest.partition(".")[0] in allowed, (path, name)
