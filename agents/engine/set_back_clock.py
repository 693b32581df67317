"""A worker whose clock goes back: the pauses before its retries would last that much longer.

A retry is due some seconds after its attempt has failed, by the clock of that moment. If the clock goes back by an hour
then, because it was an hour ahead or is behind from now on, the task would wait for an hour, and its key as well. So
each retry that began to wait later than now waits for its pause from now on. What is due at an instant that a user has
named stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from agents.engine.waiting_sweeps import visit_rows
from app.rules.clocks import CLOCK_TOLERANCE_MS
from app.rules.waiting_rows import pause_ms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agents.engine.lane import Lane
    from agents.engine.worker_lanes import WorkerLanes

log = logging.getLogger(__name__)


class SetBackClock:
    """Notices it, and looks through the rows once."""

    def __init__(self, lanes: WorkerLanes, *, hasten: Callable[[Lane, bytes, int], bool]) -> None:
        """`hasten` lets a row be due at an instant, and returns whether it changed."""
        self._lanes = lanes
        self._hasten = hasten
        self._looked_at_ms = 0
        self._correcting: set[asyncio.Task[None]] = set()

    def look(self, owned: Iterable[Lane], now_ms: int) -> None:
        """Compare the clock with what it said before; to be called every few seconds while retries wait."""
        before_ms, self._looked_at_ms = self._looked_at_ms, now_ms
        if now_ms < before_ms - CLOCK_TOLERANCE_MS:
            correcting = asyncio.create_task(self._correct(list(owned), now_ms))
            self._correcting.add(correcting)
            correcting.add_done_callback(self._correcting.discard)

    async def _correct(self, owned: list[Lane], now_ms: int) -> None:
        """Let all retries that began to wait after `now_ms` wait for their pauses from then on."""
        count = 0
        try:
            for lane in owned:
                count += await visit_rows(self._lanes, lane, partial(self._correct_row, lane, now_ms))
        except Exception as error:  # noqa: BLE001  # nobody awaits it
            self._lanes.transactions.fatal(error)
        if count:
            log.warning("the clock went back: %d tasks wait anew for the pauses before their next attempts", count)

    def _correct_row(self, lane: Lane, now_ms: int, key: bytes, value: bytes) -> bool:
        pause_ms = pause_ms_of(key, value, now_ms)
        return pause_ms is not None and self._hasten(lane, key, now_ms + pause_ms)
