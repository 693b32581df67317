"""Token buckets: never more than the rate, never less than it for long."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.rate import BURST_S, Throttle, TokenBucket, share_of

RATES = st.floats(0.01, 5_000)
PAUSES_S = st.lists(st.floats(0, 3), min_size=1, max_size=40)


def test_bucket_begins_empty_and_lets_the_rate_through():
    """At 2.5 a second the first token is there after 0.4 s, the next one 0.4 s later."""
    bucket = TokenBucket(2.5, 10.0)
    assert [pytest.approx(0.4), 0.0, pytest.approx(0.3), 0.0] == [bucket.take(at_s) for at_s in (10, 10.4, 10.5, 10.8)]


def test_idle_time_is_saved_up_for_a_tenth_of_a_second_only():
    """An hour without work is no licence for a burst."""
    bucket = TokenBucket(1_000, 0.0)
    taken = sum(bucket.take(3_600.0) == 0 for _ in range(1_000))
    assert round(1_000 * BURST_S) == taken


def test_rate_of_nothing_lets_nothing_through():
    """A worker without partitions has a share of nothing, and no time to come back at."""
    assert math.inf == TokenBucket(0.0, 0.0).take(1e9)


@given(RATES, PAUSES_S)
def test_never_more_than_the_rate(per_s, pauses_s):
    """In any span of time at most rate times span start, and what the bucket had saved up before it."""
    bucket, now_s, taken = TokenBucket(per_s, 0.0), 0.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        taken += [now_s for _ in range(10) if bucket.take(now_s) == 0]
    saved = max(1.0, per_s * BURST_S)
    for first in range(0, len(taken), 7):
        span_s = taken[-1] - taken[first]
        assert len(taken) - first <= saved + per_s * span_s + 1e-3
    assert len(taken) <= per_s * now_s + 1e-3


@given(RATES, st.integers(1, 20))
def test_asking_when_told_to_reaches_the_rate(per_s, count):
    """Who comes back when the bucket says so gets a token each time, and waits no longer than the rate demands."""
    bucket, now_s = TokenBucket(per_s, 0.0), 0.0
    for _ in range(count):
        now_s += bucket.take(now_s)
        assert 0 == bucket.take(now_s)
    assert pytest.approx(count / per_s, rel=1e-6) == now_s


@given(st.lists(st.tuples(RATES, st.floats(0, 0.5)), min_size=1, max_size=30))
def test_changing_the_rate_gives_no_tokens_away(changes):
    """A rebalance a second does not let more through than the rates add up to."""
    bucket, now_s, allowed, taken = TokenBucket(1.0, 0.0), 0.0, 0.0, 0
    before = 1.0
    for per_s, pause_s in changes:
        now_s += pause_s
        allowed += before * pause_s
        bucket.set_rate(per_s, now_s)
        before = per_s
        while taken < 10_000 and bucket.take(now_s) == 0:
            taken += 1
    assert taken <= allowed + 1e-3


def test_time_that_goes_back_is_ignored():
    """A clock that jumps does not fill the bucket twice."""
    bucket = TokenBucket(1.0, 10.0)
    assert 0 == bucket.take(11.0)
    assert pytest.approx(1.0) == bucket.take(5.0)
    assert pytest.approx(0.5) == bucket.take(11.5)


def test_shares_add_up_to_the_limit():
    """Whoever owns how many of the partitions."""
    assert [1.25, 0.625, 0.625] == [share_of(2.5, owned, 8) for owned in (4, 2, 2)]


def test_throttle_has_a_bucket_for_each_limited_kind():
    """A kind without a limit never waits; a limit that goes away stops holding, one that stays keeps its tokens."""
    throttle = Throttle()
    throttle.set_rates({"mail": 1.0, "image": 1.0}, 0.0)
    assert [0, 0, 1] == [throttle.take("other", 0.0), throttle.take("other", 0.0), throttle.take("mail", 0.0)]
    throttle.set_rates({"mail": 1.0}, 1.0)
    assert [0, 1] == [throttle.take("mail", 1.0) for _ in range(2)]
    assert [0, 0] == [throttle.take("image", 1.0) for _ in range(2)]
