"""Picking points: extremes and last of every bucket, the same however they are kept."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import downsampling
from db.downsampling import CELLS, Placed

numbers = st.floats(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])
series = st.lists(numbers, min_size=1, max_size=300)


def placed(values: list[float], start: int = 0) -> Placed:
    at = np.arange(start, start + len(values))
    return Placed(at, at * 2, at * 3, np.array(values, np.float64))


def expected(values: list[float], size: int) -> set[int]:
    """By the definition: first least, first greatest, last, first that is no number."""
    found = set()
    for start in range(0, len(values), size):
        bucket = list(enumerate(values))[start : start + size]
        finite = [(value, at) for at, value in bucket if math.isfinite(value)]
        found.add(bucket[-1][0])
        found |= {min(finite)[1], max(finite, key=lambda each: (each[0], -each[1]))[1]} if finite else set()
        found |= {next(iter(at for at, value in bucket if not math.isfinite(value)), bucket[-1][0])}
    return found


@given(values=series, size=st.integers(1, 40))
def test_what_is_picked_is_what_the_definition_says(values: list[float], size: int) -> None:
    # min of equal values takes the first by position: -0.0 and 0.0 are equal.
    assert set(downsampling.pick(np.arange(len(values)), np.array(values), size).tolist()) == expected(
        values, size
    )


@given(values=series, size=st.integers(1, 7), times=st.integers(1, 7), cut=st.integers(0, 300))
def test_picks_of_picks_are_picks(values: list[float], size: int, times: int, cut: int) -> None:
    whole = placed(values)
    parts = [whole.at(slice(0, cut)).picked(size), whole.at(slice(cut, None)).picked(size)]
    again = downsampling.joined(parts).picked(size * times)
    assert again.positions.tolist() == whole.picked(size * times).positions.tolist()


@given(points=st.integers(1, 10**9), buckets=st.integers(1, 4000), start=st.integers(0, 10**9))
def test_buckets_are_as_small_as_they_can_be(points: int, buckets: int, start: int) -> None:
    size = downsampling.fitting([(start, start + points)], buckets)
    assert downsampling.count([(start, start + points)], size) <= buckets
    level = downsampling.level_of(size)
    assert level == 0 or size % CELLS[level - 1] == 0, "kept picks serve it"
    assert size <= max(2.5 * points / max(buckets - 1, 1), 1) or buckets == 1


@pytest.mark.parametrize("spans", [[(0, 5), (7, 9)], [(0, 1), (1, 2), (9, 30)], [(3, 4)]])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_buckets_are_counted(spans: list[tuple[int, int]], size: int) -> None:
    positions = [at for first, stop in spans for at in range(first, stop)]
    assert downsampling.count(spans, size) == len({at // size for at in positions})
