"""Windows: sums that merge, keys that sort by time, figures that people can believe."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.counts import (
    HOUR_MS,
    MINUTE_MS,
    TOTAL_SIZE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    describe_counts,
    encode_counts,
    encode_window_key,
    expired_windows,
    first_key_of,
    merged_window,
    window_ladder,
    window_start_ms,
)

SOME = settings(max_examples=50, deadline=None)
HISTOGRAMS = st.dictionaries(st.integers(-1, 300), st.integers(1, 1_000), max_size=8)
COUNTS = st.builds(
    lambda fields: Counts(**fields),
    st.fixed_dictionaries(
        {
            name: HISTOGRAMS
            if name.endswith("histogram")
            else st.integers(-50, 50)
            if name.endswith("_now")
            else st.integers(0, 10**12)
            for name in Counts.__struct_fields__
        }
    ),
)
KEYS = st.builds(
    WindowKey,
    st.sampled_from([TOTAL_SIZE_MS, WINDOW_MS, 60_000, 3_600_000]),
    st.integers(0, 253_402_300_799_999),
    st.text("abcXYZ019._-", min_size=1, max_size=5),
)


def merged(*parts: Counts) -> Counts:
    """Add counts up, leaving the parts as they are."""
    total = Counts()
    for part in parts:
        add_counts(total, part)
    return total


@SOME
@given(st.lists(COUNTS, max_size=4))
def test_merging_adds_everything_and_keeps_the_largest(parts):
    """Sums add up, maxima stay maxima, histograms count the values of all."""
    total = msgspec.structs.asdict(merged(*parts))
    for name, value in total.items():
        each = [getattr(part, name) for part in parts]
        if name.endswith("_max_ms"):
            assert max(each, default=0) == value
        elif name.endswith("histogram"):
            buckets = {bucket for one in each for bucket in one}
            assert {bucket: sum(one.get(bucket, 0) for one in each) for bucket in buckets} == value
        else:
            assert sum(each) == value


@SOME
@given(COUNTS, COUNTS, COUNTS)
def test_merging_does_not_depend_on_order(one, two, three):
    """Steps, partitions and windows may be added up in any order."""
    assert merged(one, two, three) == merged(three, merged(two, one))


@SOME
@given(COUNTS)
def test_counts_survive_their_table(counts):
    """What is stored is read back, states below 0 and histograms included."""
    assert counts == decode_counts(encode_counts(counts))


@SOME
@given(KEYS)
def test_window_key_survives_its_table(key):
    """Packing and unpacking give the same key."""
    assert key == decode_window_key(encode_window_key(key))


@SOME
@given(st.lists(KEYS, max_size=20))
def test_window_keys_sort_by_size_then_time(keys):
    """The order of the bytes is the order of time, so that old windows are found at the front."""
    assert sorted(keys) == [decode_window_key(data) for data in sorted(encode_window_key(key) for key in keys)]


@given(st.integers(0, 253_402_300_799_999))
def test_instant_lies_in_its_window(at_ms):
    """Start inclusive, end exclusive, starts on multiples of the size."""
    key = WindowKey(WINDOW_MS, window_start_ms(at_ms), "default")
    assert key.start_ms <= at_ms < key.end_ms
    assert 0 == key.start_ms % WINDOW_MS


def window(start_ms: int, size_ms: int = WINDOW_MS, kind: str = "default") -> bytes:
    """Return a stored key."""
    return encode_window_key(WindowKey(size_ms, start_ms, kind))


STORED = sorted(
    [
        window(0, TOTAL_SIZE_MS),
        window(0, TOTAL_SIZE_MS, "mail"),
        *(window(start_ms) for start_ms in (0, 10_000, 20_000, 30_000)),
        window(10_000, kind="mail"),
        window(0, 60_000),
        window(0, 3_600_000),
    ]
)


@pytest.mark.parametrize(
    ("before_ms", "limit", "expected"),
    [
        (-5, 10, []),
        (9_999, 10, []),
        (10_000, 10, [window(0)]),
        (20_000, 10, [window(0), window(10_000), window(10_000, kind="mail")]),
        (20_000, 2, [window(0), window(10_000)]),
        (20_000, 0, []),
        (10**12, 10, [window(0), window(10_000), window(10_000, kind="mail"), window(20_000), window(30_000)]),
    ],
)
def test_windows_expire_when_they_ended_long_enough_ago(before_ms, limit, expected):
    """10 s windows only, oldest first, no more than asked for; totals and longer windows stay."""
    keys = (key for key in STORED if key >= first_key_of(WINDOW_MS))
    assert expected == [encode_window_key(one) for one in expired_windows(keys, WINDOW_MS, before_ms, limit)]


def test_windows_merge_into_the_longer_ones_that_contain_them():
    """Each step of the ladder keeps its windows longer than the one before, and a merged window contains its parts."""
    ladder = window_ladder(HOUR_MS)
    assert [WINDOW_MS, MINUTE_MS, HOUR_MS] == [one.size_ms for one in ladder]
    assert sorted(one.kept_ms for one in ladder) == [one.kept_ms for one in ladder]
    for (size_ms, _, merged_into_ms), longer in pairwise(ladder):
        part = WindowKey(size_ms, window_start_ms(7 * HOUR_MS + 59 * MINUTE_MS + 50_000, size_ms), "mail")
        assert longer.size_ms == merged_into_ms
        whole = merged_window(part, longer.size_ms)
        assert "mail" == whole.kind
        assert whole.start_ms <= part.start_ms < part.end_ms <= whole.end_ms


def test_law_is_what_is_missing_from_all_states():
    """A lost task shows as a positive imbalance, one counted twice as a negative one."""
    states: dict[str, Any] = {name: 1 for name in Counts.__struct_fields__ if name.endswith("_now")}
    assert 6 == len(states)
    assert 0 == Counts(tasks_created=6, **states).imbalance
    assert 2 == Counts(tasks_created=8, **states).imbalance
    assert -1 == Counts(tasks_created=5, **states).imbalance


def test_description_has_figures_and_spreads():
    """Counts, states now, and of each duration mean, percentiles and maximum."""
    counts = Counts(
        objects_created=2,
        tasks_created=6,
        tasks_started=4,
        tasks_finished=3,
        spent_ms=300,
        spent_max_ms=104,
        spent_histogram={48: 2, 49: 1},
        queued_now=2,
        in_progress_now=1,
        finished_now=3,
    )
    told = describe_counts(counts)
    assert (2, 6, 4, 2, 1, 3, 300) == tuple(
        told[name]
        for name in (
            "objects_created",
            "tasks_created",
            "tasks_started",
            "tasks_queued",
            "tasks_in_progress",
            "tasks_finished",
            "time_spent_ms",
        )
    )
    assert {"mean": 100.0, "p50": 92.4, "p95": 101.6, "p99": 101.6, "max": 104} == told["work_time_ms"]
    assert dict.fromkeys(("mean", "p50", "p95", "p99", "max")) == told["queue_wait_ms"]


def test_percentile_is_never_over_the_maximum():
    """A bucket's middle may lie above the largest value that was seen; nobody would believe it."""
    told = describe_counts(Counts(wait_ms=93, wait_max_ms=93, wait_histogram={48: 1}))
    assert 92.4 == told["queue_wait_ms"]["p99"]
    told = describe_counts(Counts(wait_ms=90, wait_max_ms=90, wait_histogram={48: 1}))
    assert 90 == told["queue_wait_ms"]["p99"] == told["queue_wait_ms"]["max"]
