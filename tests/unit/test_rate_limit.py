"""The limit of requests for each client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access.exposure import host_of, refusal_of
from api.access.origin import counted_as
from api.access.rates import RateLimit


def test_burst_then_the_rate():
    """A full bucket gives its burst at once, then one for each interval."""
    limit = RateLimit(2, 3)
    assert [True, True, True, False] == [limit.take("a", 0.0).allowed for _ in range(4)]
    assert [False, True, False] == [limit.take("a", now_s).allowed for now_s in (0.4, 0.5, 0.6)]


def test_refused_request_is_told_when_to_come_back():
    """Coming back then is enough, coming before is not."""
    limit = RateLimit(0.1, 1)
    limit.take("a", 100.0)
    verdict = limit.take("a", 104.0)
    assert (False, 6.0) == (verdict.allowed, round(verdict.retry_after_s, 6))
    assert limit.take("a", 110.0).allowed


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 5), st.sampled_from([0.5, 1.0, 3.0]))
def test_never_more_than_burst_and_rate_allow(pauses_s, burst, per_s):
    """In any span at most burst + rate * span pass, however they come."""
    limit, now_s, passed = RateLimit(per_s, burst), 0.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        if limit.take("a", now_s).allowed:
            passed.append(now_s)
    for first, begin_s in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - begin_s) * per_s + 1e-6


def test_memory_of_clients_is_bounded():
    """Those not heard of for longest are forgotten."""
    limit = RateLimit(0.001, 1, max_clients=3)
    for number in range(1_000):
        limit.take(f"client {number}", 0.0)
    assert 3 == len(limit)
    assert [True, False] == [limit.take(name, 0.0).allowed for name in ("client 0", "client 999")]


def test_one_site_of_ipv6_is_one_client():
    """Else each of its 2**64 addresses would have a burst of its own."""
    assert counted_as("2001:db8::1") == counted_as("2001:db8::ffff:1") != counted_as("2001:db8:0:1::1")
    assert "198.51.100.1" == counted_as("198.51.100.1")


def test_host_is_read_from_the_command_line(monkeypatch):
    """As uvicorn reads it."""
    monkeypatch.delenv("UVICORN_HOST", raising=False)
    assert "0.0.0.0" == host_of(["uvicorn", "api.main:http_app", "--host", "0.0.0.0"], "127.0.0.1")
    assert "::" == host_of(["uvicorn", "--host=::"], "127.0.0.1")
    assert "127.0.0.1" == host_of(["uvicorn", "--host"], "127.0.0.1")
    assert "" == host_of(["uvicorn", "--host="], "127.0.0.1")
    assert "0.0.0.0" == host_of(["gunicorn", "--bind", "0.0.0.0:8000"], "127.0.0.1")
    assert "::" == host_of(["hypercorn", "-b", "[::]:8000"], "127.0.0.1")
    monkeypatch.setenv("UVICORN_HOST", "10.0.0.7")
    assert "10.0.0.7" == host_of(["uvicorn"], "127.0.0.1")


@pytest.mark.parametrize(
    ("host", "published_on", "has_keys", "is_open", "may_start"),
    [
        ("127.0.0.1", "", False, False, True),
        ("::1", "", False, False, True),
        ("localhost", "", False, False, True),
        ("0.0.0.0", "", True, False, True),
        ("0.0.0.0", "", False, True, True),
        ("0.0.0.0", "127.0.0.1", False, False, True),
        ("0.0.0.0", "0.0.0.0", True, False, True),
        ("0.0.0.0", "", False, False, False),
        ("", "", False, False, False),
        ("10.0.0.7", "", False, False, False),
        ("0.0.0.0", "0.0.0.0", False, False, False),
    ],
)
def test_api_that_strangers_reach_without_keys_does_not_start(host, published_on, has_keys, is_open, may_start):
    """Loopback is this machine's own business, keys are the cure, EBS_API_OPEN is who knows what he does."""
    refusal = refusal_of(host, published_on=published_on, has_keys=has_keys, is_open=is_open)
    assert may_start == (refusal is None)
    assert may_start or "EBS_API_KEYS_WRITE" in str(refusal)
