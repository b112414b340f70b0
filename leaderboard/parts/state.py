"""The selection of a page lives in the query string: a link shows what its sender saw.

The URL is the one truth. A widget takes its value from it on every run and writes its changes back; a value that is
the default is left out. Names that pages share: ``base``, ``candidate`` (may repeat), ``suite``, ``task``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

from parts.words import harmless, literal

#: The page at the site's root.
HOME = "leaderboard"

Value = str | bool | int | date | Iterable[str] | None


def pick(
    label: str,
    key: str,
    options: Sequence[str],
    default: str | None = None,
    *,
    shape: Any = st.selectbox,
    **widget: Any,
) -> str | None:
    """Let the visitor choose one of several options.

    Args:
        label: What is chosen.
        key: Name in the query string, and key of the widget.
        options: What can be chosen.
        default: Chosen unless the URL says otherwise; None: the first option.
        shape: What it looks like: ``st.selectbox`` or, for few short options, ``st.segmented_control``.
        **widget: Further arguments of it; without ``format_func``, options are shown as ``harmless`` text.

    Returns:
        The option, None where there are none.
    """
    options = list(options)
    fallback = default if default in options else next(iter(options), None)
    asked = st.query_params.get(key)
    wanted = asked if asked in options else fallback
    _set(key, wanted)
    widget.setdefault("format_func", harmless)
    shape(label, options, key=key, on_change=_changed, args=(key, fallback), disabled=not options, **widget)
    if asked is not None and asked not in options:
        _unknown(label, [asked], wanted)
    return wanted


def pick_many(label: str, key: str, options: Sequence[str], default: Sequence[str] = (), **widget: Any) -> list[str]:
    """Let the visitor choose any of several options.

    Args:
        label: What is chosen.
        key: Name in the query string, and key of the widget.
        options: What can be chosen.
        default: Chosen unless the URL says otherwise; what is no option is left out.
        **widget: Further arguments of ``st.multiselect``, ``format_func`` as for ``pick``.

    Returns:
        The chosen ones, in the order in which they were chosen.
    """
    options = list(options)
    fallback = [option for option in default if option in options]
    asked = list(dict.fromkeys(name for name in st.query_params.get_all(key) if name))
    known = [name for name in asked if name in options]
    # ``?key=`` stands for a choice of nothing.
    wanted = known if known or (key in st.query_params and not asked) else fallback
    _set(key, wanted)
    widget.setdefault("format_func", harmless)
    st.multiselect(label, options, key=key, on_change=_changed, args=(key, fallback), disabled=not options, **widget)
    if unknown := [name for name in asked if name not in options]:
        _unknown(label, unknown, ", ".join(wanted) or "none")
    return wanted


def pick_text(label: str, key: str, default: str = "", **widget: Any) -> str:
    """Let the visitor write a line of text.

    Args:
        label: What is written.
        key: Name in the query string, and key of the widget.
        default: Stands there unless the URL says otherwise.
        **widget: Further arguments of ``st.text_input``.
    """
    wanted = st.query_params.get(key, default)
    _set(key, wanted)
    st.text_input(label, key=key, on_change=_changed, args=(key, default), **widget)
    return wanted


def pick_flag(label: str, key: str, default: bool = False) -> bool:
    """Let the visitor switch something on or off.

    Args:
        label: What is switched.
        key: Name in the query string, and key of the widget.
        default: How it stands unless the URL says otherwise.
    """
    wanted = {"1": True, "0": False}.get(st.query_params.get(key, ""), default)
    _set(key, wanted)
    st.toggle(label, key=key, on_change=_changed, args=(key, default))
    return wanted


def pick_date(label: str, key: str) -> date | None:
    """Let the visitor choose a day.

    Args:
        label: What it is.
        key: Name in the query string (``2026-01-31`` there), and key of the widget.

    Returns:
        The day, None where none is chosen.
    """
    asked = st.query_params.get(key)
    wanted = None
    if asked:
        try:
            wanted = date.fromisoformat(asked)
        except ValueError:
            _unknown(label, [asked], "any day")
    _set(key, wanted)
    st.date_input(label, value=None, key=key, format="YYYY-MM-DD", on_change=_changed, args=(key, None))
    return wanted


def value(key: str, default: str = "") -> str:
    """Return what the URL says under a name."""
    return st.query_params.get(key, default)


def put(**values: Value) -> None:
    """Write values into the URL; None removes one."""
    for key, content in values.items():
        if content is None:
            if key in st.query_params:
                del st.query_params[key]
        else:
            st.query_params[key] = _written(content)


def link(page: str, **values: Value) -> str:
    """Return the URL of a page with a selection, relative to any page of the site.

    Args:
        page: Name of the page, such as ``"compare"``.
        **values: As for ``put``; what is None is left out.
    """
    query = urlencode(_written_all(values), doseq=True)
    return f"./{'' if page == HOME else page}{'?' + query if query else ''}"


def go(page: str, **values: Value) -> NoReturn:
    """Lead the visitor to another page with a selection, and end this run.

    Args:
        page: Name of the page.
        **values: As for ``put``; what is None is left out.
    """
    st.switch_page(f"app_pages/{page}.py", query_params=_written_all(values))


def page_link(label: str, page: str, **values: Value) -> None:
    """Show a link that leads to another page with a selection, within the same session.

    Args:
        label: Its text; what Markdown reads in it is shown as it is.
        page: Name of the page.
        **values: As for ``put``; what is None is left out.
    """
    st.page_link(f"app_pages/{page}.py", label=literal(label), query_params=_written_all(values))


def _set(key: str, wanted: Any) -> None:
    # Only where it differs: what is set is sent to the browser again.
    if key not in st.session_state or st.session_state[key] != wanted:
        st.session_state[key] = wanted


def _changed(key: str, fallback: Any) -> None:
    chosen = st.session_state[key]
    put(**{key: None if chosen == fallback else chosen})


def _written(content: Any) -> str | list[str]:
    if isinstance(content, bool):
        return "1" if content else "0"
    if isinstance(content, str | int | date):
        return str(content)
    return [str(one) for one in content] or [""]


def _written_all(values: dict[str, Value]) -> dict[str, str | list[str]]:
    return {key: _written(content) for key, content in values.items() if content is not None}


def _unknown(label: str, asked: Sequence[str], instead: str | None) -> None:
    names = ", ".join(literal(name, 60) for name in asked[:3])
    shown = literal(instead or "–")
    st.caption(f"{literal(label)}: the link names {names}, which is not here; shown instead: {shown}")
