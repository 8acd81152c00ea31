"""The one meaning that a percentile has in molts."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The value that `percent` of 100 `values` do not exceed; None without values.

    What lies between two values is interpolated, as by numpy's default. Written out here, since neither numpy nor the
    decimal numbers of `statistics` belong into every process that shows a percentile.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * percent / 100
    below, above = ordered[floor(place)], ordered[min(floor(place) + 1, len(ordered) - 1)]
    return below + (above - below) * (place - floor(place))
