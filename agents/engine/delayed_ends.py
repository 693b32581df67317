"""Ends of tasks that wait a moment for others, so that few transactions write to topics that are seldom written to."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.lane import Lane

GATHER_S = 0.25
"""Ends that write to additional topics wait this long for others, unless none was sent within that time.

Each partition that a transaction writes to costs the broker a marker, and its readers a fetch: one task in a hundred
that fails put three more topics into every transaction, and doubled the broker's CPU time (2026-11, `make bench-engine
BENCH="--only poison"`)."""
_MAX_WAITING = 1_000
"""Ends that do not wait any longer: each holds its records, stack traces among them."""


class DelayedEnds:
    """Keeps ends until it is time to write them; `on_sent` hears of it."""

    def __init__(self, wait_s: float, *, on_sent: Callable[[], None]) -> None:
        self._wait_s = wait_s
        self._on_sent = on_sent
        self._waiting: list[tuple[Lane, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sent_at_s = -math.inf

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, lane: Lane, write: Callable[[], None]) -> None:
        """Let `write` send what becomes of a request and note that it is done, together with other such ends.

        Until then the request counts as not done. If the lane is lost before, nothing is written.
        """
        self._waiting.append((lane, write))
        if len(self._waiting) >= _MAX_WAITING:
            self._send()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            due_at_s = max(loop.time(), self._sent_at_s + self._wait_s)
            self._timer = loop.call_at(due_at_s, self._send)

    def send_now(self) -> None:
        """Let no end wait any longer."""
        if self._waiting:
            self._send()

    def _send(self) -> None:
        self._sent_at_s = asyncio.get_running_loop().time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for lane, write in waiting:
            if not lane.lost:
                write()
        self._on_sent()
