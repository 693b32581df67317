"""How many tasks of each kind may start per second in this worker: its share of each rate, by its partitions."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from app.rules.rate import Throttle, share_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.kind_limits import KindLimits

_CALL_EVERY_S = 0.02
"""Shortest wait for a token. A bucket collects tokens for longer than that (`app.rules.rate`), so none is lost."""


class KindRates:
    """Gives tokens to tasks that start. It calls `on_token` with a kind when a token may be there again."""

    def __init__(self, limits: KindLimits, *, on_token: Callable[[str], None]) -> None:
        self._limits = limits
        self._on_token = on_token
        self._lane_count = 0
        self._throttle = Throttle()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def share(self, lane_count: int) -> None:
        """Take the shares of this many lanes of the rates that are in force now, and wake up all kinds that wait."""
        self._lane_count = lane_count
        rates = {kind: rate for kind in self._limits.kinds_with_rates() if (rate := self._limits.of(kind).rate_per_s)}
        shares = {kind: self._share_of(per_s) for kind, per_s in rates.items()}
        self._throttle.set_rates(shares, asyncio.get_running_loop().time())
        for kind in list(self._timers):
            self._ring(kind)

    def take(self, kind: str) -> bool:
        """Take a token if the kind has a rate. If none is left, return False; `on_token` tells when one may be."""
        per_s = self._limits.of(kind).rate_per_s
        if per_s is None:
            return True
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._throttle.available(kind, now_s) is None:
            self._throttle.add(kind, self._share_of(per_s), now_s)
        wait_s = self._throttle.take(kind, now_s)
        if 0 < wait_s < math.inf and kind not in self._timers:
            self._timers[kind] = loop.call_later(max(wait_s, _CALL_EVERY_S), self._ring, kind)
        return wait_s == 0

    def give_back(self, kind: str) -> None:
        """Put back a token that was not used."""
        self._throttle.give_back(kind)

    def is_awaited(self, kind: str) -> bool:
        """Return whether `on_token` will be called for a kind."""
        return kind in self._timers

    def _share_of(self, per_s: float) -> float:
        return share_of(per_s, self._lane_count, self._limits.partition_count)

    def _ring(self, kind: str) -> None:
        timer = self._timers.pop(kind, None)
        if timer is not None:
            timer.cancel()
        self._on_token(kind)
