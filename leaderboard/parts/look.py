"""What the theme alone does not say about how the site looks."""

from __future__ import annotations

import streamlit as st

_STYLE = """
<style>
  .stMainBlockContainer { padding: 4.2rem 2rem 3rem 2rem; max-width: 1400px; }
  .stMainBlockContainer h1 { padding: 0 0 0.2rem 0; }
  .stMainBlockContainer h2 { padding: 0.6rem 0 0.2rem 0; }
  .stMainBlockContainer h3 { padding: 0.4rem 0 0.1rem 0; }
  [class*="st-key-downloads-"] { margin-top: -0.7rem; justify-content: flex-end; }
  [class*="st-key-downloads-"] button { min-height: 0; padding: 0; font-size: 0.78rem; opacity: 0.75; }
  [class*="st-key-downloads-"] button:hover { opacity: 1; }
  [data-testid="stMetricValue"], td, .tabular { font-variant-numeric: tabular-nums; }
  [data-testid="stMetricValue"] { font-size: 1.35rem; }
  [data-testid="stPageLink-NavLink"] { padding-left: 0; padding-right: 0; background: none; }
  [data-testid="stPageLink-NavLink"] p {
    text-decoration: underline; text-underline-offset: 0.25em; text-decoration-color: rgba(128, 136, 146, 0.6);
  }
  .stCode .token.deleted { color: #D55E00 !important; }
  .stCode .token.inserted { color: #0A8F6B !important; }
  @media (max-width: 640px) {
    .stMainBlockContainer { padding-left: 0.9rem; padding-right: 0.9rem; }
  }
</style>
"""


def apply() -> None:
    """Apply it to the page that is being made."""
    st.html(_STYLE)
