"""How many bytes may be on their way to the broker at once: what keeps a slow broker from filling this process."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class BrokerBehind(Exception):
    """The broker takes records more slowly than they come; nothing of these was sent."""


class InFlight:
    """A number of bytes that are lent out; those who wait for some are served in turn."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._free_bytes = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._waiting_bytes = 0

    @asynccontextmanager
    async def hold(self, size_bytes: int, wait_s: float) -> AsyncIterator[None]:
        """Have so many bytes while the block runs. Raises `BrokerBehind` if they are not free within `wait_s`."""
        # One request over the limit would never be served; it is bounded by other settings.
        size_bytes = min(size_bytes, self._limit_bytes)
        if self._waiting or size_bytes > self._free_bytes:
            await self._wait(size_bytes, wait_s)
        else:
            self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_bytes += size_bytes
            self._serve()

    async def _wait(self, size_bytes: int, wait_s: float) -> None:
        reason = (
            f"{self._limit_bytes} bytes (EBS_MAX_IN_FLIGHT_BYTES) already wait for the Kafka broker's acknowledgement"
        )
        # What waits is held in memory too, so it has the same limit.
        if wait_s <= 0 or self._waiting_bytes + size_bytes > self._limit_bytes:
            raise BrokerBehind(reason)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size_bytes, turn)
        self._waiting.append(place)
        self._waiting_bytes += size_bytes
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
                self._waiting_bytes -= size_bytes
            elif not turn.cancelled():
                self._free_bytes += size_bytes  # it was served in the moment in which it gave up
            self._serve()
            if isinstance(error, TimeoutError):
                raise BrokerBehind(reason) from None
            raise

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            size_bytes, turn = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            if not turn.done():  # one that was cancelled is not there any more to take them
                self._free_bytes -= size_bytes
                turn.set_result(None)
