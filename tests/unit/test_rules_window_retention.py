"""How windows age: which are over, into which they merge, where late events still count."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.counts import HOUR_MS, MINUTE_MS, TOTAL_SIZE_MS, WINDOW_MS, WindowKey, encode_window_key
from app.rules.window_retention import expired_windows, first_key_of, late_before_ms, living_window, window_ladder

LADDER = window_ladder(HOUR_MS)
NOW_MS = 1_795_489_276_303
DAY_MS = 24 * HOUR_MS


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


def test_ladder_keeps_longer_windows_longer():
    """10 s for the setting, 1 min for a day, 1 h for 30 days, each size a multiple of the one before."""
    assert [(WINDOW_MS, HOUR_MS), (MINUTE_MS, DAY_MS), (HOUR_MS, 30 * DAY_MS)] == list(LADDER)
    assert [100 * DAY_MS] * 3 == [one.kept_ms for one in window_ladder(100 * DAY_MS)]
    assert all(longer.size_ms % shorter.size_ms == 0 for shorter, longer in pairwise(LADDER))


@pytest.mark.parametrize(
    ("age_ms", "size_ms"),
    [
        (0, WINDOW_MS),
        (HOUR_MS, WINDOW_MS),
        (HOUR_MS + WINDOW_MS, MINUTE_MS),
        (DAY_MS, MINUTE_MS),
        (DAY_MS + MINUTE_MS, HOUR_MS),
        (30 * DAY_MS, HOUR_MS),
        (30 * DAY_MS + HOUR_MS, None),
        (-DAY_MS, WINDOW_MS),
    ],
)
def test_late_event_counts_in_the_shortest_window_that_still_is(age_ms, size_ms):
    """By its age against the stream time; None: only the totals know it."""
    window = living_window(LADDER, NOW_MS - age_ms, "mail", NOW_MS)
    assert size_ms == (window and window.size_ms)
    if window is not None:
        assert window.start_ms <= NOW_MS - age_ms < window.end_ms
        assert "mail" == window.kind


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40 * DAY_MS), st.sampled_from([0, WINDOW_MS, MINUTE_MS, HOUR_MS]))
def test_no_window_is_made_that_is_over(age_ms, longer_than_ms):
    """Whatever comes late, or merges late: it never goes to a window that is expired, which nobody would remove."""
    window = living_window(LADDER, NOW_MS - age_ms, "mail", NOW_MS, longer_than_ms)
    if window is None:
        return
    assert window.size_ms > longer_than_ms
    kept_ms = dict(LADDER)[window.size_ms]
    assert [] == expired_windows([encode_window_key(window)], window.size_ms, NOW_MS - kept_ms, 1)


def test_event_is_late_once_its_window_is_over_for_the_grace():
    """The window's end and the grace must both have passed, to the millisecond."""
    window_ms = NOW_MS // WINDOW_MS * WINDOW_MS
    end_ms = window_ms + WINDOW_MS
    for at_ms in (window_ms, end_ms - 1):
        assert not at_ms < late_before_ms(end_ms + 4_999, 5_000)
        assert at_ms < late_before_ms(end_ms + 5_000, 5_000)
        assert at_ms < late_before_ms(end_ms, 0)
    assert 0 == late_before_ms(5_000, 10_000)
