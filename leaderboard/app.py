"""The leaderboard site: pages that show a database of results, and read nothing else."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from parts import data, look

#: Page to its title, in the order of the navigation; the first stands at the root. Without icons: browsers would fetch
#: those of a tab from another site.
PAGES = {
    "leaderboard": "Leaderboard",
    "compare": "Compare",
    "samples": "Samples",
    "reports": "Reports",
    "model": "Model",
    "subjects": "Subjects",
    "gates": "Gates",
    "efficiency": "Efficiency",
    "radar": "Radar",
}

here = Path(__file__).parent
page = st.navigation(
    [
        st.Page(here / "app_pages" / f"{name}.py", title=title, url_path=name, default=name == "leaderboard")
        for name, title in PAGES.items()
    ],
    position="top",
)
st.set_page_config(page_title=f"{page.title} · tuneboard", page_icon=str(here / "icon.svg"), layout="wide")
look.apply()
data.begin()
data.require_data()
page.run()
