"""The limit of requests for each client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.access.exposure import host_of, warning_of
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
    monkeypatch.setenv("UVICORN_HOST", "10.0.0.7")
    assert "10.0.0.7" == host_of(["uvicorn"], "127.0.0.1")


def test_only_an_open_api_without_keys_is_warned_of():
    """Loopback is this machine's own business, and keys are the cure."""
    assert [None, None, None, None] == [
        warning_of("127.0.0.1", has_keys=False),
        warning_of("::1", has_keys=False),
        warning_of("localhost", has_keys=False),
        warning_of("0.0.0.0", has_keys=True),
    ]
    assert "listens on 0.0.0.0 without keys" in str(warning_of("0.0.0.0", has_keys=False))
