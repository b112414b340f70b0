from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from tuneboard import stats

#: Few, since statsmodels collects garbage at every call.
FEW = settings(max_examples=10, deadline=None)
FAMILY = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(FAMILY)
@FEW
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert stats.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@given(FAMILY)
@FEW
def test_benjamini_hochberg_equals_statsmodels(p_values: list[float]) -> None:
    assert stats.benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1], abs=1e-12)


def test_holm_of_three_is_the_one_worked_out_by_hand() -> None:
    # 0.01 x 3; then 0.03 x 2; then 0.04 x 1, but no less than the one before.
    assert stats.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_a_family_of_one_needs_no_correction_and_none_has_none() -> None:
    assert stats.holm([0.04]) == stats.benjamini_hochberg([0.04]) == [0.04]
    assert stats.holm([]) == stats.benjamini_hochberg([]) == []


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    for correct in (stats.holm, stats.benjamini_hochberg):
        with pytest.raises(ValueError, match="between 0 and 1"):
            correct([0.5, bad])
