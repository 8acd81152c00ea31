"""Percentiles: one meaning on every page and in every report."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molts.percentiles import percentile


def test_what_lies_between_two_values_is_interpolated() -> None:
    assert percentile([], 50) is None
    assert percentile([7], 95) == 7
    assert percentile(range(1, 11), 50) == 5.5
    assert percentile([500, 100, 400, 200, 300], 95) == 480
    assert round(percentile(range(1, 101), 95) or 0) == 95


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=50), st.integers(0, 100))
def test_it_means_what_numpy_means(values: list[int], percent: int) -> None:
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))
