"""How charts fill their place and tell their series apart."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from parts.charts import SERIES

#: As wide as the place, axes and padding included; the height is that of the rows alone, however tall the legend is.
FIT_WIDTH = alt.AutoSizeParams(type="fit-x", contains="padding")
#: After the colours of ``SERIES``: four of them, darker.
_MORE = ("#003F66", "#863B00", "#05563F", "#6C3B5E")


def series_scale(names: Sequence[str]) -> alt.Scale:
    """Return the scale that gives each of up to twelve series a colour of its own.

    Args:
        names: In the order of use.
    """
    colours = (*SERIES, *_MORE)
    return alt.Scale(domain=list(names), range=[colours[at % len(colours)] for at in range(len(names))])
