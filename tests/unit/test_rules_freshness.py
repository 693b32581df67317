"""The last instant of which a reader has everything."""

from __future__ import annotations

import random

from app.rules.freshness import Freshness


def test_freshness_advances_although_there_is_always_more_to_read():
    """What was heard at an instant is held once the reader has come as far as the topic was then."""
    fresh = Freshness()
    fresh.note(0, 10, 1_000)
    fresh.note(5, 20, 2_000)
    assert fresh.as_of_ms is None
    fresh.note(12, 30, 3_000)
    assert 1_000 == fresh.as_of_ms
    fresh.note(30, 30, 4_000)
    assert 4_000 == fresh.as_of_ms


def test_freshness_of_a_reader_far_behind_is_bounded_and_never_too_good():
    """However long it lags: little memory, and never an instant that it has not reached."""
    fresh, rng = Freshness(), random.Random(1)
    ends = {}
    position = end = 0
    for now_ms in range(1, 5_000):
        end += rng.randrange(5)
        position = min(end, position + rng.randrange(4))
        ends[now_ms] = end
        fresh.note(position, end, now_ms)
        assert len(fresh._samples) <= 65
        assert fresh.as_of_ms is None or ends[fresh.as_of_ms] <= position
