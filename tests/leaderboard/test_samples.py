"""The page of samples: what changed, one sample open, and a link that opens the same one elsewhere."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneboard.store.writes import Store

small = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("small.py"))))

BOTH = {"base": "base", "candidate": "mine"}


def shown(test: Any) -> str:
    """All code and plain text of a page."""
    return "\n".join(element.value for element in (*test.code, *test.text))


def written(test: Any) -> dict[str, str]:
    """The query string, one value each."""
    return {key: value[0] if isinstance(value, list) else value for key, value in test.query_params.items()}


def names(test: Any) -> set[str]:
    """The samples in the list of the page."""
    frame = test.dataframe[0].value
    return {f"{row.Task}:{row._3}" for row in frame.itertuples()}


def press(test: Any, label: str) -> Any:
    """Press a button, which must not be switched off."""
    (button,) = (one for one in test.button if one.label == label)
    assert not button.disabled
    button.click().run()
    assert not test.exception
    return test


def disabled(test: Any, label: str) -> bool:
    """Whether a button is switched off."""
    (button,) = (one for one in test.button if one.label == label)
    return bool(button.disabled)


def test_what_broke_stands_first_and_its_first_sample_is_open(app, small_db):
    test = app("samples", small_db)
    opened = written(test)["sample"]
    assert opened in names(test)
    task, number = opened.split(":")
    assert test.subheader[0].value.replace("\\", "") == f"{task} · document {number}"
    assert f"question {number}" in shown(test)


def test_next_and_previous_walk_through_the_samples(app, small_db):
    test = app("samples", small_db, **BOTH, task="gsm8k", status="fixed")
    opened = [written(test)["sample"]]
    assert disabled(test, "Previous")
    while not disabled(test, "Next"):
        opened.append(written(press(test, "Next"))["sample"])
    assert len(set(opened)) == len(opened) == small.CHANGES["mine"]["gsm8k"][0]
    assert opened == sorted(opened, key=lambda key: int(key.split(":")[1]))
    assert written(press(test, "Previous"))["sample"] == opened[-2]


def test_pages_of_the_list_open_their_first_sample(app, small_db):
    test = app("samples", small_db, **BOTH, task="gsm8k", status="fixed")
    first = names(test)
    press(test, "Later")
    assert written(test)["sample"] in names(test)
    assert not names(test) & first
    press(test, "Earlier")
    assert names(test) == first


def test_a_link_opens_the_same_sample_in_another_session(app, small_db):
    there = press(app("samples", small_db, **BOTH, task="gsm8k", status="fixed"), "Next")
    here = app("samples", small_db, **written(there))
    assert written(here) == written(there)
    assert shown(here) == shown(there)
    assert here.subheader[0].value == there.subheader[0].value


def test_a_link_to_a_sample_that_is_not_among_the_chosen_ones_still_opens_it(app, small_db):
    fixed = written(app("samples", small_db, **BOTH, task="gsm8k", status="fixed"))["sample"]
    test = app("samples", small_db, **BOTH, task="gsm8k", status="broke", sample=fixed)
    assert written(test)["sample"] == fixed
    assert any("not among these" in caption.value for caption in test.caption)
    assert written(press(test, "Next"))["sample"] != fixed


def test_choosing_other_samples_opens_the_first_of_them(app, small_db):
    test = app("samples", small_db, **BOTH, task="gsm8k", status="fixed")
    before = written(test)["sample"]
    test.query_params["status"] = "broke"
    test.run()
    assert not test.exception
    assert written(test)["sample"] != before
    assert written(test)["sample"] in names(test)


@pytest.mark.parametrize("sample", ["gsm8k:999999", "nothing:1", "gsm8k", ":", "gsm8k:99999999999999999999"])
def test_links_that_name_no_sample_show_the_page(app, small_db, sample):
    test = app("samples", small_db, **BOTH, task="gsm8k", status="all", sample=sample)
    assert len(test.dataframe)


def test_a_link_may_name_a_subject_as_its_task(app, small_db):
    test = app("samples", small_db, **BOTH, task="mmlu_anatomy", status="all")
    assert (written(test)["task"], written(test)["subject"]) == ("mmlu", "mmlu_anatomy")
    assert {key.split(":")[0] for key in names(test)} == {"mmlu_anatomy"}


def test_the_chosen_and_the_right_choice_are_named_by_words(app, small_db):
    test = app("samples", small_db, **BOTH, task="hellaswag", status="broke")
    table = test.dataframe[1].value
    number = int(written(test)["sample"].split(":")[1])
    assert table["Right"].tolist() == ["right" if i == number % 4 else "" for i in range(4)]
    assert table["Chosen by"][number % 4] == "base"
    assert table["Chosen by"][(number + 1) % 4] == "candidate"
    assert table["Difference"].tolist() == pytest.approx((table["Candidate"] - table["Base"]).tolist())


def test_differences_are_marked_by_characters_unless_switched_off(app, small_db):
    query = {**BOTH, "task": "gsm8k", "status": "fixed"}
    # The first few documents have the same answers on both sides.
    query["sample"] = max(names(app("samples", small_db, **query)), key=lambda key: int(key.split(":")[1]))
    test = app("samples", small_db, **query)
    marked = [code.value for code in test.code if code.value.startswith(("- ", "+ "))]
    assert len(marked) == 2
    plain = app("samples", small_db, **query, marks="0")
    assert not any(code.value.startswith(("- ", "+ ")) for code in plain.code)


def test_a_text_narrows_the_samples(app, small_db):
    test = app("samples", small_db, **BOTH, task="gsm8k", status="all", text="WHAT IS 17 ")
    assert names(test) == {"gsm8k:17"}
    none = app("samples", small_db, **BOTH, text="no such words")
    assert [info.value for info in none.info] == ["No sample holds this text."]


@pytest.mark.parametrize("number", range(len(small.HOSTILE)))
def test_what_models_wrote_is_shown_as_text_alone(app, small_db, number):
    test = app("samples", small_db, **BOTH, task="gsm8k", status="all", sample=f"gsm8k:{number}")
    text = shown(test)
    assert small.HOSTILE[number].split("\x1b")[0].split("\ud800")[0].split("\u202e")[0][:40] in text
    assert not {"\x1b", "\x07", "\x00", "\u202e", "\ud800"} & set(text)
    rendered = [*test.markdown, *test.caption, *test.title, *test.subheader, *test.header, *test.info]
    for element in rendered:
        assert "<script>" not in element.value and "](javascript" not in element.value
    assert len(text) < 200_000


def test_one_candidate_alone_is_told_so(app, tmp_path):
    db = tmp_path / "one.duckdb"
    small.fill(db, ["base"])
    assert ["One candidate is evaluated so far" in info.value for info in app("samples", db).info] == [True]


def test_an_empty_database_says_how_to_fill_it(app, empty_db):
    assert any("tuneboard evaluate" in code.value for code in app("samples", empty_db).code)


def test_a_failed_sample_says_why(app, tmp_path):
    db = tmp_path / "failed.duckdb"
    store = Store(db)
    run = store.start_run(small.provenance("tuneboard evaluate"))
    results = [small.result(name, "hellaswag") for name in ("base", "mine")]
    whole = results[1].samples
    broken = replace(whole[7], status="failed", reason="<b>no memory</b>", responses=(None,) * 4, metrics={})
    results[1] = replace(results[1], samples=(*whole[:7], broken, *whole[8:]), n=79, failed=1)
    store.commit_all(run, results)
    test = app("samples", db, status="not scored")
    assert written(test)["sample"] == "hellaswag:7"
    assert "<b>no memory</b>" in shown(test)
