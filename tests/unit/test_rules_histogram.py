"""Histograms: quantiles within 5 %, and merging that is adding."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.histogram import RELATIVE_ERROR, ZERO, bucket_of, merge_into, quantile, value_of

SOME = settings(max_examples=80, deadline=None)
DURATIONS_MS = st.one_of(st.integers(0, 20), st.integers(0, 10_000), st.integers(0, 30 * 86_400_000))
PERCENTS = st.sampled_from([0, 1, 50, 95, 99, 100])


def histogram_of(values: list[int]) -> dict[int, int]:
    """Count values into buckets."""
    histogram: dict[int, int] = {}
    for value in values:
        merge_into(histogram, {bucket_of(value): 1})
    return histogram


def exact_quantile(values: list[int], percent: int) -> int:
    """Return the nearest-rank quantile, without any floating point."""
    return sorted(values)[max(1, -(-percent * len(values) // 100)) - 1]


@SOME
@given(st.lists(DURATIONS_MS, min_size=1, max_size=150), PERCENTS)
def test_quantile_is_within_five_percent_of_the_exact_one(values, percent):
    """Of any durations from 0 ms to a month."""
    told = quantile(histogram_of(values), percent / 100)
    exact = exact_quantile(values, percent)
    assert told is not None
    assert abs(told - exact) <= 0.05 * exact


@SOME
@given(st.lists(DURATIONS_MS), st.lists(DURATIONS_MS))
def test_merged_histograms_are_that_of_all_values(some, others):
    """Merging loses nothing and counts nothing twice."""
    merged = histogram_of(some)
    merge_into(merged, histogram_of(others))
    assert histogram_of(some + others) == merged


@SOME
@given(DURATIONS_MS, DURATIONS_MS)
def test_longer_durations_have_no_lower_bucket(one, other):
    """The order of values is that of their buckets, where the table of short ones meets the logarithm too."""
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


def test_every_short_duration_is_within_its_bound():
    """The table of short durations and the first ones beyond it keep the error below 5 %."""
    errors = [abs(value_of(bucket_of(value)) - value) / value for value in range(1, 10_000)]
    assert max(errors) <= RELATIVE_ERROR + 1e-9 <= 0.05


def test_nothing_is_a_value_of_its_own():
    """0 ms is exactly 0, not the smallest bucket."""
    assert (ZERO, 0.0) == (bucket_of(0), value_of(ZERO))
    assert 0.0 == quantile({ZERO: 3, bucket_of(100): 1}, 0.5)


def test_empty_histogram_has_no_quantile():
    """None, not 0: nothing was measured."""
    assert quantile({}, 0.5) is None


@pytest.mark.parametrize(("percent", "exact"), [(0, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_quantile_is_of_the_nearest_rank(percent, exact):
    """Of the durations 1 to 100 ms."""
    told = quantile(histogram_of(list(range(1, 101))), percent / 100)
    assert told is not None
    assert math.isclose(exact, told, rel_tol=0.05)
