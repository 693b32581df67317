"""How many requests a client may send: a token bucket each, kept as one number (GCRA)."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MAX_CLIENTS = 10_000
"""With more clients than this, the least recently seen are forgotten: each of them gains at most one burst."""


class Verdict(NamedTuple):
    """Whether a request may pass, how many more may pass now, and the seconds until one more and until all may pass."""

    allowed: bool
    remaining: int
    retry_after_s: float
    full_after_s: float


class RateLimit:
    """`per_s` requests a second for each client, `burst` of them at once; time is any clock that never goes back."""

    def __init__(self, per_s: float, burst: int, max_clients: int = MAX_CLIENTS) -> None:
        self.per_s = per_s
        self.burst = burst
        self._interval_s = 1 / per_s
        self._max_clients = max_clients
        # By client when its bucket is full again; in the past: it is full.
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str, now_s: float) -> Verdict:
        """Count a request of a client; a refused request does not count."""
        full_at_s = max(now_s, self._full_at_s.get(client, now_s))
        ahead_s = full_at_s - now_s
        room_s = self.burst * self._interval_s - ahead_s
        if room_s < self._interval_s * (1 - 1e-9):
            self._full_at_s.move_to_end(client)
            return Verdict(allowed=False, remaining=0, retry_after_s=self._interval_s - room_s, full_after_s=ahead_s)
        self._full_at_s[client] = full_at_s + self._interval_s
        self._full_at_s.move_to_end(client)
        if len(self._full_at_s) > self._max_clients:
            self._full_at_s.popitem(last=False)
        remaining = int(room_s / self._interval_s + 1e-9) - 1
        return Verdict(allowed=True, remaining=remaining, retry_after_s=0.0, full_after_s=ahead_s + self._interval_s)

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._full_at_s)
