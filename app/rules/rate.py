"""Rate limits: token buckets, with the time as an argument.

A limit holds for the whole system, and nobody counts for all workers together: each takes the share of it that its
partitions are of all, so the shares add up to the limit whoever owns what. A bucket begins empty and keeps what it has
when its rate changes: otherwise every restart and every rebalance would let a burst through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BURST_S = 0.1
"""What a bucket saves up, at least one token: without it a rate of thousands would need a wake-up a token."""
_ROUNDING = 1e-9


def share_of(per_s: float, owned_count: int, partition_count: int) -> float:
    """Return a worker's part of a limit: that of its partitions."""
    return per_s * owned_count / partition_count


class TokenBucket:
    """Lets `per_s` (0: nothing) a second through; times in seconds of any clock that does not go back."""

    __slots__ = ("_filled_at_s", "_per_s", "_tokens")

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._tokens = 0.0
        self._filled_at_s = now_s

    def set_rate(self, per_s: float, now_s: float) -> None:
        """Go on with another rate."""
        self._fill(now_s)
        self._per_s = per_s
        self._tokens = min(self._tokens, self._capacity())

    def take(self, now_s: float) -> float:
        """Take a token if there is one; returns 0 then, else after how many seconds there will be one."""
        self._fill(now_s)
        if self._tokens >= 1 - _ROUNDING:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s if self._per_s > 0 else float("inf")

    def give_back(self) -> None:
        """Put a token back that was taken for nothing."""
        self._tokens = min(self._capacity(), self._tokens + 1)

    def available(self, now_s: float) -> int:
        """Return how many whole tokens there are, without taking any."""
        self._fill(now_s)
        return int(self._tokens + _ROUNDING)

    def _fill(self, now_s: float) -> None:
        if now_s > self._filled_at_s:
            self._tokens = min(self._capacity(), self._tokens + (now_s - self._filled_at_s) * self._per_s)
            self._filled_at_s = now_s

    def _capacity(self) -> float:
        return max(1.0, self._per_s * BURST_S)


class Throttle:
    """The buckets of one worker, by kind; a kind without a limit has none."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def set_rates(self, rates: Mapping[str, float], now_s: float) -> None:
        """Take over this worker's shares by kind; limits that are not among them are gone."""
        for kind in self._buckets.keys() - rates.keys():
            del self._buckets[kind]
        for kind, per_s in rates.items():
            bucket = self._buckets.get(kind)
            if bucket is None:
                self._buckets[kind] = TokenBucket(per_s, now_s)
            else:
                bucket.set_rate(per_s, now_s)

    def available(self, kind: str, now_s: float) -> int | None:
        """Return how many tasks of a kind may start at once; None: any number."""
        bucket = self._buckets.get(kind)
        return None if bucket is None else bucket.available(now_s)

    def add(self, kind: str, per_s: float, now_s: float) -> None:
        """Limit one more kind."""
        self._buckets[kind] = TokenBucket(per_s, now_s)

    def give_back(self, kind: str) -> None:
        """Put a token back that was taken for nothing."""
        bucket = self._buckets.get(kind)
        if bucket is not None:
            bucket.give_back()

    def take(self, kind: str, now_s: float) -> float:
        """Let a task of a kind start: returns 0, or after how many seconds to ask again."""
        bucket = self._buckets.get(kind)
        return 0.0 if bucket is None else bucket.take(now_s)
